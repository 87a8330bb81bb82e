"Settings of the site: `tools/site` builds it from the pages that pages.py makes of nbs/."
from docutils import nodes

project = html_title = 'visionkit'
html_theme = 'furo'
html_static_path = ['static']
html_css_files = ['site.css']
html_copy_source = False
html_show_copyright = False
smartquotes = False # it would turn --check into –check
extensions = ['myst_nb']
nb_execution_mode = 'off' # the stored outputs are shown
nb_merge_streams = True
nb_render_markdown_format = 'myst'
nb_code_prompt_show = nb_code_prompt_hide = 'Source'
myst_heading_anchors = 3
python_maximum_signature_line_length = 90
toc_object_entries_show_parents = 'hide'

def link_names(app, doctree, docname):
    "Link `function`, `Class` and `Class.method` in the text to where the reference documents them, if just one page does"
    objects = app.env.domaindata['py']['objects']
    targets = {}
    for name, entry in objects.items():
        owner, _, last = name.rpartition('.') # a method of a foreign class, such as Learner's, is known by its last name
        for short in {name, name.split('.', 2)[-1], *([] if owner in objects else [last])}:
            targets.setdefault(short, []).append(f'{app.builder.get_relative_uri(docname, entry.docname)}#{name}')
    for literal in list(doctree.findall(nodes.literal)):
        found = targets.get(literal.astext().removesuffix('()'), ())
        if len(found) == 1 and not isinstance(literal.parent, nodes.reference | nodes.title):
            literal.replace_self(nodes.reference('', '', literal.deepcopy(), internal=True, refuri=found[0]))

def setup(app): app.connect('doctree-resolved', link_names)
