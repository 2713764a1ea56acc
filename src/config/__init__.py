"""Configuration: composing it, finding its mistakes, building what it describes. Only this package knows Hydra."""

from src.config.building import build, credit_rule, locate, plain, scorers, verifier
from src.config.checking import check_lengths, checked, find_mistakes
from src.config.composing import CONF, ROOT, compose, groups, jobs, options, quote_rounds
from src.config.resuming import checkpoint_of, extend, load, overrides, refuse_changes, resume, written
from src.config.running import choices, complain, launch, run_directory
from src.config.sections import section

__all__ = [
    "CONF",
    "ROOT",
    "build",
    "check_lengths",
    "checked",
    "checkpoint_of",
    "choices",
    "complain",
    "compose",
    "credit_rule",
    "extend",
    "find_mistakes",
    "groups",
    "jobs",
    "launch",
    "load",
    "locate",
    "options",
    "overrides",
    "plain",
    "quote_rounds",
    "refuse_changes",
    "resume",
    "run_directory",
    "scorers",
    "section",
    "verifier",
    "written",
]
