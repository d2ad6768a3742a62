"""Do diagnostics predict the error of learned values?"""
