"""Faults are injected into small runs, which must survive them or refuse them with a sentence."""
