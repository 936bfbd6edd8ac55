"""The paper as data, what was measured beside it, and the verdicts that follow."""
