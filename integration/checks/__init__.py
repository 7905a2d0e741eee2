"""Checks of the command as a whole, on bad input, bad registries and bad luck.

Each module of this package has `CHECKS`, a list of (name, function of the environment).
"""

import importlib
import pkgutil


def _modules():
    names = sorted(m.name for m in pkgutil.iter_modules(__path__))
    return [importlib.import_module(f"{__name__}.{n}") for n in names]


def titles():
    return [name for module in _modules() for name, _ in module.CHECKS]


def run_all(report, env):
    for module in _modules():
        wanted = [(name, call) for name, call in module.CHECKS if env.wanted(name)]
        if not wanted:
            continue
        with report.part(module.__doc__.splitlines()[0]):
            for name, call in wanted:
                report.check(name, call, env)
