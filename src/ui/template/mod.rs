//! `--format '{{.Field}}'`: the part of Go's templates that people use with `docker inspect` and `docker images`.
//!
//! **Holds.** Text, `{{…}}` with `{{-` and `-}}`, comments; fields, variables, strings, numbers, pipelines; `if`, `with`,
//! `range` with `else`; the functions of [`syntax::FUNCTIONS`]. Values print as Go prints them: `[a b]`, `map[k:v]`, `<no value>`.
//! **Not here.** Everything else is an error that names it; nothing is printed wrongly.

mod parse;
mod render;
mod syntax;

use serde_json::Value;

pub(crate) use syntax::TemplateError;
use syntax::{Node, Parsed};

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template(Vec<Node>);

impl Template {
    /// Parses a template; `\t` and `\n` stand for tab and line feed.
    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        parse::nodes(&text.replace("\\t", "\t").replace("\\n", "\n")).map(Self)
    }

    /// The text for a value.
    pub(crate) fn render(&self, value: &Value) -> Parsed<String> {
        render::render(&self.0, value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value() -> Value {
        json!({
            "Id": "sha256:12", "Size": 7, "Tags": ["a:1", "b"], "None": [], "Null": null, "Yes": true,
            "Config": {"Env": ["A=1", "B=2"], "Labels": {"x.y": "z", "k": "v"}, "Cmd": ["sh", "-c", "echo }}"]},
            "Manifest": {"mediaType": "m", "list": [{"digest": "d", "platform": {"os": "linux"}}]},
        })
    }

    fn render(template: &str) -> Result<String, String> {
        let template = Template::parse(template).map_err(|e| e.to_string())?;
        template.render(&value()).map_err(|e| e.to_string())
    }

    #[test]
    fn templates_print_what_go_prints() {
        for (template, want) in [
            ("plain", "plain"),
            ("{{.Id}}\\t{{.Size}}", "sha256:12\t7"),
            ("{{ .Tags }} {{.Config.Labels}} {{.Yes}}", "[a:1 b] map[k:v x.y:z] true"),
            ("{{json .Tags}}", r#"["a:1","b"]"#),
            ("{{.Config.Env | json}}", r#"["A=1","B=2"]"#),
            ("{{index .Tags 0}} {{(index .Config.Env 1)}}", "a:1 B=2"),
            (r#"{{index .Config.Labels "x.y"}}|{{index .Config.Labels "none"}}|"#, "z||"),
            ("{{.Config.Labels.k}} {{.Config.Labels.none}} {{.Config.Labels.K}}", "v <no value> <no value>"),
            ("{{.Manifest.MediaType}}{{range .Manifest.List}} {{.Digest}} {{.Platform.OS}}{{end}}", "m d linux"),
            ("{{range .Tags}}<{{.}}>{{end}}", "<a:1><b>"),
            ("{{range $i, $t := .Tags}}{{$i}}={{$t}} {{$.Size}} {{end}}", "0=a:1 7 1=b 7 "),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "k=v;x.y=z;"),
            ("{{range .None}}x{{else}}empty{{end}}", "empty"),
            ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
            ("{{if .Null}}a{{else if .Yes}}b{{else}}c{{end}}", "b"),
            ("{{with .Config}}{{len .Env}}{{end}}", "2"),
            (r#"{{join .Tags ", "}} {{upper "x"}} {{.Id | lower}}"#, "a:1, b X sha256:12"),
            (r#"{{index (split .Id ":") 1}}"#, "12"),
            (r#"{{if eq .Size 7}}seven{{end}}{{if and .Yes (not .Null)}} ok{{end}}"#, "seven ok"),
            ("{{if gt (len .Tags) 1}}several{{end}}", "several"),
            ("a {{- .Size -}} b{{/* nothing */}}", "a7b"),
            ("{{$x := .Size}}{{$x}}", "7"),
            (r#"{{"}}"}} {{`a"b`}} {{"\t"}}"#, "}} a\"b \t"),
            ("{{index .Config.Cmd 2}}", "echo }}"),
        ] {
            assert_eq!(render(template), Ok(want.to_owned()), "{template}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (template, want) in [
            ("{{.Nmae}}", "there is no field .Nmae; there are .Config, .Id"),
            ("{{printf \"%s\" .Id}}", "printf is not supported; there are and, eq"),
            ("{{.Id", "{{ without }}"),
            ("{{if .Id}}", "{{end}} is missing"),
            ("{{end}}", "{{end}} without its beginning"),
            ("{{template \"x\"}}", "template is not supported"),
            ("{{index .Tags 9}}", "index 9 is out of range: there are 2"),
            ("{{.Id.x}}", ".Id has no fields: it is sha256:12"),
            ("{{.Id | }}", "an action or a side of | is empty"),
            ("{{}}", "an action or a side of | is empty"),
            ("{{$y}}", "there is no variable $y"),
            ("{{(len .Id}}", "a parenthesis is open"),
            ("{{len .Id)}}", "a parenthesis too many"),
            ("{{range .Size}}{{end}}", "range cannot go over 7"),
            ("{{join .Tags}}", "join wants two, not 1 arguments"),
            ("{{lt .Size \"x\"}}", "lt cannot compare 7 and x"),
            ("{{\"x}}", "{{ without }}"),
        ] {
            let found = render(template).expect_err(template);
            assert!(found.contains(want), "{template}: {found}");
        }
    }
}
