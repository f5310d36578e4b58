"""Measure a method on photos whose regions have names: masks or boxes of things, each with its class as the phrase."""
