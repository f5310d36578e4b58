"""Stores: the proposals of many photos in one HDF5 file, computed once and read by every other command."""

from proposals.store.reading import Stored

__all__ = ["Stored"]
