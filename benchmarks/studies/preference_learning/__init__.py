"""Learning from preferences: cloning, cloning of what was preferred, four forms of CPL, and SAC for a fitted reward."""
