"""radiograd: align models with what a radiology report must get right.

Importing this package loads neither torch nor any other heavy library.
"""

from radiograd.errors import RadiogradError
from radiograd.types import Case, Image, Labels, Score, Sections, Status, Study

__version__ = "0.1.0"
__all__ = ["Case", "Image", "Labels", "RadiogradError", "Score", "Sections", "Status", "Study", "__version__"]
