"""higra's graphs and trees, imported without its plots.

``import higra`` imports matplotlib's pyplot and SciPy's clustering where it finds them, for its plots.
That takes half a second of every start, and in a fresh installation matplotlib also searches the machine for fonts.
"""

import sys

_FOR_PLOTS = [name for name in ("matplotlib.pyplot", "scipy.cluster") if name not in sys.modules]

sys.modules.update(dict.fromkeys(_FOR_PLOTS))  # type: ignore[arg-type]  # None: the import fails, as if not installed
try:
    import higra
finally:
    for _name in _FOR_PLOTS:
        del sys.modules[_name]

__all__ = ["higra"]
