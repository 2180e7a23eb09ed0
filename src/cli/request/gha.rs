//! The attributes of `type=gha`, which are those of BuildKit.

use crate::cache::remote::{GhaPlace, GhaPlaceError};
use crate::cli::failure::Failure;

use super::Environment;
use super::given::Given;

const SCOPE: &str = "kiln";

/// Takes what describes a part of an Actions cache; what is not given is read from the variables of a job.
pub(super) fn place(given: &mut Given<'_>, environment: &Environment) -> Result<GhaPlace, Failure> {
    match given.take("version").as_deref() {
        None | Some("2") => {}
        Some(_) => return Err(given.wrong("version is 2: GitHub has closed the first one")),
    }
    let (url, first) = (given.take("url_v2"), given.take("url"));
    let url = url.or(first).or_else(|| environment.text("ACTIONS_RESULTS_URL")).filter(|url| !url.is_empty());
    let token = given.take("token").or_else(|| environment.text("ACTIONS_RUNTIME_TOKEN"));
    let token = token.filter(|token| !token.is_empty());
    let missing = |why: &str, variable: &str| {
        let hint = format!("expose {variable} to the step: GitHub gives it to actions only, not to run");
        given.wrong(why).hint(hint)
    };
    let token = token.ok_or_else(|| missing("no token of the Actions cache", "ACTIONS_RUNTIME_TOKEN"))?;
    let url = url.ok_or_else(|| missing("no URL of the Actions cache", "ACTIONS_RESULTS_URL"))?;
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(given.wrong("the token has characters that no token has"));
    }
    let scope = given.take("scope").unwrap_or_else(|| SCOPE.to_owned());
    GhaPlace::new(&url, token, scope).map_err(|why| match why {
        GhaPlaceError::Url => given.wrong(&why.to_string()).hint("give url_v2 as https://HOST/"),
        GhaPlaceError::Scope => given.wrong(&why.to_string()).hint("give a short name, such as that of the image"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::cache::{Place, from, to};
    use super::*;

    const URL: &str = "https://results.example/";

    fn place(url: &str, token: &str, scope: &str) -> Place {
        Place::Actions(GhaPlace::new(url, token.to_owned(), scope.to_owned()).expect("a place"))
    }

    #[test]
    fn actions_cache_comes_from_attributes_then_from_variables() {
        let bare = Environment::of(0, &[]);
        let job = Environment::of(0, &[("ACTIONS_RUNTIME_TOKEN", "job"), ("ACTIONS_RESULTS_URL", URL)]);
        for (rest, environment, want) in [
            ("", &job, place(URL, "job", "kiln")),
            (",scope=app,version=2", &job, place(URL, "job", "app")),
            (",url=https://other.example,token=own", &bare, place("https://other.example", "own", "kiln")),
            (
                ",url=https://first.example,url_v2=https://other.example",
                &job,
                place("https://other.example", "job", "kiln"),
            ),
        ] {
            let from = from(&format!("type=gha{rest}"), environment);
            assert_eq!(from.map(|from| from.place).ok(), Some(want), "{rest}");
        }
        assert_eq!(
            to("type=gha,mode=max,ignore-error=true", &job).ok().map(|to| to.place),
            Some(place(URL, "job", "kiln"))
        );
    }

    #[test]
    fn wrong_actions_cache_is_refused_without_showing_its_token() {
        let long = format!("scope={}", "x".repeat(300));
        let job = [("ACTIONS_RUNTIME_TOKEN", "hidden"), ("ACTIONS_RESULTS_URL", URL)];
        let (bare, job) = (Environment::of(0, &[]), Environment::of(0, &job));
        let tokenless = Environment::of(0, &[("ACTIONS_RESULTS_URL", URL), ("ACTIONS_RUNTIME_TOKEN", "")]);
        for (rest, environment, why) in [
            ("scope=a", &bare, "no token of the Actions cache"),
            ("scope=a", &tokenless, "no token of the Actions cache"),
            ("token=hidden", &bare, "no URL of the Actions cache"),
            ("token=hidden hidden", &job, "the token has characters that no token has"),
            ("url_v2=results.example", &job, "is not an http or https URL"),
            ("version=1", &job, "version is 2"),
            ("scope=", &job, "scope is empty"),
            ("\"scope=a,b\"", &job, "scope is empty, too long, or has a comma"),
            (&long, &job, "scope is empty, too long"),
            ("timeout=1m", &job, "the attribute timeout is not supported"),
            ("repository=a/b", &job, "the attribute repository is not supported"),
            ("ghtoken=hidden", &job, "the attribute ghtoken is not supported"),
            ("ref=x,token=hidden", &job, "the attribute ref is not supported"),
        ] {
            let failure = from(&format!("type=gha,{rest}"), environment).expect_err(rest);
            assert!(failure.message.contains(why), "{rest}: {}", failure.message);
            assert!(!failure.message.contains("hidden"), "{rest}: {}", failure.message);
        }
        let Ok(Place::Actions(place)) = from("type=gha", &job).map(|from| from.place) else { panic!("a place") };
        assert!(!format!("{place:?}").contains("hidden"));
    }
}
