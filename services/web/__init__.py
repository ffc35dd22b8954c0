"""The page that both teams look at: the numbers that they would argue about, from the views that BI reads.

`app` says which path shows what, `reading` asks Postgres, `templates/` is what it looks like. It changes
nothing and needs no JavaScript.
"""
