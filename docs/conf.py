"""How Sphinx makes a site of these pages: `make docs`, into .cache/site. Needs no network, and a warning is an error.

Sphinx and MyST because both are kept up; MkDocs has had no release since 2024.

The pages are Markdown first, to be read on the forge; so what only a site needs (its table of contents, and the
reference, which is made of docstrings) is in contents.rst and api/.
"""

project = "kvflow"
root_doc = "contents"
extensions = ["myst_parser", "sphinx.ext.autodoc"]

myst_heading_anchors = 3

html_theme = "furo"
html_title = "kvflow"
html_show_copyright = False
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False
