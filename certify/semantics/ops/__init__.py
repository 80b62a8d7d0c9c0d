"""Rows of the rule table, one module a kind; importing this package imports them all, and each registers its rows."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
