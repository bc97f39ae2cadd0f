#!/usr/bin/env python3
"""Builds a database of an older schema from its SQL: old-database.py SQL FILE"""

import os
import sqlite3
import sys

sql, path = sys.argv[1:]
os.umask(0o077)
database = sqlite3.connect(path)
database.executescript(open(sql).read())
database.commit()
database.execute("PRAGMA journal_mode = WAL")
database.close()
