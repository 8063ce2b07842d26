"""Go templates: what they print, and what they refuse."""

import pytest

from proa.cli.text.template import Template
from proa.cli.text.template_syntax import TemplateError

VALUE = {
    "Name": "web",
    "List": ["a", "b"],
    "Map": {"k": "v", "j": "w"},
    "Null": None,
    "Number": 5,
    "Share": 1.5,
    "State": {"Running": True},
    "Cmd": None,
    "Labels": None,
    "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/udp": None},
}


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{{.Name}}", "web"),
        ("{{ .State.Running }}", "true"),
        ("{{.NAME}} {{.State.RUNning}}", "web true"),
        ("{{json .State}}", '{"Running":true}'),
        ("{{.State | json}}", '{"Running":true}'),
        ("{{json .Name}}", '"web"'),
        ("{{.Map}} {{.List}} {{.Null}}", "map[j:w k:v] [a b] <no value>"),
        ("{{.Cmd}} {{json .Cmd}} {{.Labels}} {{json .Labels}}", "[] null map[] null"),
        ("{{range .List}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $v := .List}}{{$i}}={{$v}};{{end}}", "0=a;1=b;"),
        ("{{range $k, $v := .Map}}{{$k}}:{{$v}} {{end}}", "j:w k:v "),
        ("{{range .Null}}x{{else}}none{{end}}", "none"),
        ('{{range .List}}{{if eq . "b"}}{{break}}{{end}}{{.}}{{end}}', "a"),
        ('{{range .List}}{{if eq . "a"}}{{continue}}{{end}}{{.}}{{end}}', "b"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if not .State.Running}}a{{else if gt .Number 4}}b{{else}}c{{end}}", "b"),
        ("{{if and .Name .Null}}x{{else}}y{{end}}{{or .Null .Name}}", "yweb"),
        ("{{with .Map}}{{.k}}{{end}}{{with .Null}}x{{else}}-{{end}}", "v-"),
        ("{{with $m := .Map}}{{$m.k}}{{$.Name}}{{end}}", "vweb"),
        ('{{index .Map "k"}}{{index .List 1}}{{index .Map "no"}}', "vb"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        (
            "{{range $p, $b := .Ports}}{{if $b}}{{$p}}->{{(index $b 0).HostPort}}{{end}}{{end}}",
            "80/tcp->8080",
        ),
        ("{{len .List}}{{len .Name}}{{len .Map}}", "232"),
        ('{{join .List ", " | upper}}{{lower "AB"}}{{title "ab cd"}}', "A, BabAb Cd"),
        ('{{split "a:b" ":"}}{{truncate .Name 2}}{{pad .Name 1 2}}|', "[a b]we web  |"),
        ("{{println .Name .Number}}", "web 5\n"),
        (
            '{{printf "%5d|%-5s|%q|%.2f|%v|%%" .Number .Name .Name .Share .List}}',
            '    5|web  |"web"|1.50|[a b]|%',
        ),
        ('{{print .Name "x" 1 2}}', "webx1 2"),
        ("{{slice .Name 1}}{{slice .List 0 1}}", "eb[a]"),
        ("a {{- .Name -}}  b{{/* nothing */}}", "awebb"),
        ("{{$x := 1}}{{$x}}{{$x = 2}}{{$x}}", "12"),
        ("{{`raw }}`}}{{\"\\t\"}}{{'a'}}{{0x10}}{{true}}{{1e6}}", "raw }}\t9716true1e+06"),
        ('{{eq .Number 4 5}}{{ne .Name "a"}}{{lt 1 2}}{{le 2 2}}{{ge 1 2}}', "truetruetruetruefalse"),
        ("no actions }} here", "no actions }} here"),
    ],
)
def test_prints_what_go_prints(source: str, shown: str) -> None:
    assert Template(source).render(VALUE) == shown


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{.", "unclosed action"),
        ("{{}}", "missing value for command"),
        ("{{if}}x{{end}}", "missing value for command"),
        ("{{if .A}}x", "{{if}} has no {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{nofunction .A}}", 'function "nofunction" not defined'),
        ("{{if .A}}{{nofunction}}{{end}}", 'function "nofunction" not defined'),
        ('{{template "x"}}', "{{template}} is not supported"),
        ('{{define "x"}}y{{end}}', "{{define}} is not supported"),
        ('{{"open}}', "unterminated quoted string"),
        ("{{.A ; .B}}", "unexpected"),
        ("{{(.A}}", "unclosed left paren"),
        ("{{break}}", "{{break}} outside {{range}}"),
        ("{{5 .A}}", "can't give argument to non-function"),
    ],
)
def test_bad_syntax_is_refused_before_anything_is_printed(source: str, words: str) -> None:
    with pytest.raises(TemplateError, match="template parsing error") as caught:
        Template(source)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{.name}}", 'map has no entry for key "name"'),
        ("{{.Nope}}", 'map has no entry for key "Nope"'),
        ("{{.Name.Nope}}", "can't evaluate field Nope"),
        ("{{.Null.Nope}}", "nil value"),
        ("{{index .List 7}}", "index out of range: 7"),
        ("{{len .Number}}", "error calling len"),
        ("{{upper .Number}}", "wrong arguments for upper"),
        ("{{upper}}", "wrong arguments for upper"),
        ("{{range .Name}}{{end}}", "range can't iterate"),
        ("{{$nope}}", "undefined variable"),
        ('{{eq .Number "5"}}', "incompatible types"),
        ('{{printf "%y" 1}}', "%y is not supported"),
    ],
)
def test_what_cannot_be_carried_out_says_why(source: str, words: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(source).render(VALUE)
    assert words in str(caught.value)
