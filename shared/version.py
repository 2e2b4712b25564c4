"""The version of Rollcall."""

VERSION = "2.0.0.dev0"
