"""The page to log in on: plain HTML, which loads nothing."""

from __future__ import annotations

from html import escape

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Log in · Dělen</title>
<style>
  :root { --page: #f5f6f8; --card: #fff; --text: #1c2430; --quiet: #5c6675; --line: #dde1e7;
          --accent: #2f6f8f; --bad: #b3402e; }
  @media (prefers-color-scheme: dark) {
    :root { --page: #12161c; --card: #1a2029; --text: #e4e8ee; --quiet: #98a3b3; --line: #2c3542;
            --accent: #5aa3c4; --bad: #e5806f; }
  }
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--page);
         color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
  form { box-sizing: border-box; width: min(22rem, 92vw); padding: 2rem; background: var(--card);
         border: 1px solid var(--line); border-radius: 10px; display: grid; gap: .9rem; }
  h1 { margin: 0; font-size: 1.35rem; }
  p { margin: 0; color: var(--quiet); font-size: .9rem; }
  .fault { color: var(--bad); }
  input, button { font: inherit; padding: .6rem .75rem; border-radius: 6px; }
  input { border: 1px solid var(--line); background: var(--page); color: var(--text); }
  button { border: 0; background: var(--accent); color: #fff; cursor: pointer; }
</style>
</head>
<body>
<form method="post" action="/login">
  <h1>Dělen</h1>
  <label for="password"><p>The dashboard's password</p></label>
  <input id="password" name="password" type="password" autocomplete="current-password" required
         autofocus>
  <button>Log in</button>
  @fault@
</form>
</body>
</html>
"""


def login_page(fault: str | None = None) -> str:
    """The page's HTML, with a sentence where a log-in was refused."""
    line = "" if fault is None else f'<p class="fault" role="alert">{escape(fault)}</p>'
    return _PAGE.replace("@fault@", line)
