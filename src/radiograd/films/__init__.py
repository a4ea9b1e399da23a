"""Films from disk: read, fitted to a model, indexed, kept at model size. Pixels only; nothing here knows a model.

Grey values are uint8, 0 = black as on a screen. Nothing is ever flipped, but for what a file itself says of how it is
to be held (EXIF orientation).
"""
