"""How the page looks: one column, light and dark, from a telephone's width up."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --paper: #fff;
  --panel: #f4f6f8; --line: #d8dee4; --accent: #1f6fb2; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9aa5b1; --paper: #14171a; --panel: #1d2227; --line: #363e46;
    --accent: #6db3f2; --bad: #ff8a80; }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--accent); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; margin: 1rem 0 0;
  list-style: none; }
.soft, figcaption, .fact span { color: var(--soft); font-size: .875rem; }
.bad { color: var(--bad); }
.headline { margin: 1.5rem 0 .5rem; }
.headline strong { display: block; font-size: 3.25rem; line-height: 1; letter-spacing: -.02em; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem;
  margin: 1rem 0; }
.fact { background: var(--panel); border-radius: .5rem; padding: .6rem .8rem; }
.fact b { display: block; font-size: 1.3rem; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
th[scope=row], th:first-child { text-align: left; font-weight: 500; white-space: nowrap; }
table.text td, table.text th { text-align: left; vertical-align: top; }
table.text td:last-child { min-width: 14rem; overflow-wrap: anywhere; }
table.total tbody tr:last-child > * { border-top: 2px solid var(--line); font-weight: 600; }
figure { margin: .75rem 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; }
svg text { fill: currentColor; font-family: system-ui, sans-serif !important; }
.wide { overflow-x: auto; }
.wide svg { min-width: 38rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr));
  gap: 1rem 1.5rem; align-items: start; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.9rem, 1fr)); gap: .5rem;
  margin: .5rem 0; }
.tiles figure { margin: 0; }
.tiles img, .strip img { display: block; width: 100%; height: auto; background: var(--panel);
  border-radius: .25rem; }
.tiles img + img { margin-top: .2rem; }
.tiles figcaption { font-size: .75rem; line-height: 1.3; margin-top: .15rem; }
img.mfcc { image-rendering: pixelated; }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr));
  gap: 1rem; }
.clip { background: var(--panel); border-radius: .5rem; padding: .8rem; min-width: 0; }
.clip h3 { margin: 0 0 .4rem; }
.clip .strip { display: grid; grid-template-columns: 5fr 1.1fr; gap: .25rem; }
.clip table { width: 100%; }
.clip .strip img { height: 100%; object-fit: fill; }
video, audio { display: block; width: 100%; margin: .6rem 0; border-radius: .25rem; }
video { height: 12rem; background: #000; }
summary { cursor: pointer; color: var(--accent); margin: .5rem 0; }
pre { overflow-x: auto; background: var(--panel); padding: .8rem; border-radius: .5rem;
  font-size: .8125rem; line-height: 1.4; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .25rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; }
@media (max-width: 30rem) {
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
  .headline strong { font-size: 2.6rem; }
}
@media print { details > * { display: block; } video, audio, nav { display: none; } }
"""
