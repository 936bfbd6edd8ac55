"""The networks that the paper compares CT-Net with (Tables 3 and 4), each method registered by a file of its own."""

from importlib import import_module
from pkgutil import iter_modules

for _file in iter_modules(__path__, f"{__name__}."):
    import_module(_file.name)
