"""Compare attention methods: the maps of several of them, side by side on the same photos."""
