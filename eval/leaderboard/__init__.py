"""The pages of results that a command writes: ``LEADERBOARD.md``, ``docs/results.md`` and a block of ``README.md``.

The pages depend on the saved results alone, so that the same results always give the same pages.
"""
