"""What the tests of toymodels share."""

from support.coarse_pictures import coarse_pictures

__all__ = ["coarse_pictures"]
