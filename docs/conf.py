"""The site: Sphinx with MyST and furo over the Markdown of docs/; `make docs` builds it."""

from pygments.lexers.special import TextLexer  # type: ignore[import-untyped]
from sphinx.highlighting import lexers

from pflbench.version import __version__

project = "pflbench"
author = "The pflbench authors"
copyright = "The pflbench authors, Apache-2.0"
version = release = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
smartquotes = False  # which would join the hyphens of an option
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"pflbench {__version__}"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
pygments_style = "default"
lexers["csv"] = TextLexer()  # of which Pygments has none

myst_heading_anchors = 4  # the anchors that a heading has on GitHub
# anchors such as <a id="fedavg"></a> are unknown to MyST; check_links.py looks at every link of the built pages instead
suppress_warnings = ["myst.xref_missing"]
