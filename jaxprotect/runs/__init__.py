"""Variants -> rows on disk -> tables and pictures. The only room that writes files."""
