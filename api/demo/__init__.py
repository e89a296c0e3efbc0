"""The main job, shown: misbehaving code, one session per case, and what happened to each (`procession demo`)."""
