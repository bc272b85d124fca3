"""distworker moves container images in bulk between registries.

Every byte moves once, a crash anywhere loses nothing, and a tag never points at a half image.
"""

__version__ = "0.1.0"
