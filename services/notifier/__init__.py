"""The notifier: tells on-call what the alerts in `ops` say, over the channels that a file names.

`config` reads the file, `message` says what is told, `alertmanager`, `webhook` and `mail` send it, `deliver`
decides who is told what and when again, `process` runs it.
"""
