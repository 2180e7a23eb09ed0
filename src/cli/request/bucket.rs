//! The attributes of `type=s3`, which are those of BuildKit.

use crate::cache::remote::{S3Place, S3PlaceError, S3Settings};
use crate::cli::failure::Failure;

use super::Environment;
use super::given::Given;

/// Takes what describes a bucket; what is not given is read from the variables of Amazon's own tools.
pub(super) fn place(given: &mut Given<'_>, environment: &Environment) -> Result<S3Place, Failure> {
    let variable = |names: &[&str]| names.iter().find_map(|name| environment.text(name));
    let bucket =
        given.take("bucket").filter(|name| !name.is_empty()).ok_or_else(|| given.wrong("bucket is missing"))?;
    let endpoint = given.take("endpoint_url").or_else(|| variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
    let region = given.take("region").or_else(|| variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
    // Most other stores do not have regions, and accept this one.
    let region = region.or_else(|| endpoint.as_ref().map(|_| "us-east-1".to_owned()));
    let no_region = || given.wrong("region is missing").hint("give region, or set AWS_REGION");
    let region = region.filter(|region| !region.is_empty()).ok_or_else(no_region)?;
    let path_style = match given.take("use_path_style").as_deref() {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err(given.wrong("use_path_style is true or false")),
    };
    let prefix = given.take("prefix").unwrap_or_default();
    let token = given.take("session_token");
    let (key_id, secret, token) = match (given.take("access_key_id"), given.take("secret_access_key")) {
        (Some(key_id), Some(secret)) => (key_id, secret, token),
        (None, None) => {
            let key = variable(&["AWS_ACCESS_KEY_ID"]).zip(variable(&["AWS_SECRET_ACCESS_KEY"]));
            let no_key = || given.wrong("no access key").hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
            let (key_id, secret) = key.ok_or_else(no_key)?;
            (key_id, secret, token.or_else(|| variable(&["AWS_SESSION_TOKEN"])))
        }
        _ => return Err(given.wrong("access_key_id and secret_access_key belong together")),
    };
    let settings = S3Settings { bucket, region, endpoint, prefix, path_style, key_id, secret, token };
    S3Place::new(settings).map_err(|why| match why {
        S3PlaceError::Endpoint => {
            given.wrong(&why.to_string()).hint("give endpoint_url as http://HOST or https://HOST")
        }
        S3PlaceError::Bucket => given.wrong(&why.to_string()).hint("give use_path_style=true"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::cache::{Place, from};
    use super::*;

    fn settings(region: &str) -> S3Settings {
        S3Settings {
            bucket: "b".to_owned(),
            region: region.to_owned(),
            endpoint: None,
            prefix: String::new(),
            path_style: None,
            key_id: "id".to_owned(),
            secret: "key".to_owned(),
            token: None,
        }
    }

    #[test]
    fn bucket_comes_from_attributes_then_from_variables() {
        let key = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key"), ("AWS_SESSION_TOKEN", "token")];
        let (bare, full) = (Environment::of(0, &[]), Environment::of(0, &key));
        let with = |name, value| Environment::of(0, &[key[0], key[1], key[2], (name, value)]);
        let token = || Some("token".to_owned());
        let at = || Some("https://s3.example".to_owned());
        let own = "type=s3,bucket=b,region=r,access_key_id=id,secret_access_key=key";
        for (text, environment, want) in [
            (own.to_owned(), &bare, settings("r")),
            // A token of the environment belongs to the key of the environment.
            (own.to_owned(), &full, settings("r")),
            (format!("{own},session_token=token"), &bare, S3Settings { token: token(), ..settings("r") }),
            ("type=s3,bucket=b,region=r".to_owned(), &full, S3Settings { token: token(), ..settings("r") }),
            ("type=s3,bucket=b".to_owned(), &with("AWS_REGION", "x"), S3Settings { token: token(), ..settings("x") }),
            (
                "type=s3,bucket=b".to_owned(),
                &with("AWS_DEFAULT_REGION", "x"),
                S3Settings { token: token(), ..settings("x") },
            ),
            (
                "type=s3,bucket=b,use_path_style=true,prefix=p".to_owned(),
                &with("AWS_ENDPOINT_URL", "https://s3.example"),
                S3Settings {
                    token: token(),
                    endpoint: at(),
                    path_style: Some(true),
                    prefix: "p".to_owned(),
                    ..settings("us-east-1")
                },
            ),
            (
                "type=s3,bucket=b,endpoint_url=https://s3.example,use_path_style=false".to_owned(),
                &with("AWS_ENDPOINT_URL_S3", "https://other.example"),
                S3Settings { token: token(), endpoint: at(), path_style: Some(false), ..settings("us-east-1") },
            ),
        ] {
            let want = Place::Bucket(S3Place::new(want).expect("a place"));
            assert_eq!(from(&text, environment).map(|from| from.place).ok(), Some(want), "{text}");
        }
    }

    #[test]
    fn wrong_bucket_is_refused_without_showing_its_key() {
        let key = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key")];
        let (bare, full) = (Environment::of(0, &[]), Environment::of(0, &key));
        for (rest, environment, why) in [
            ("region=r", &full, "bucket is missing"),
            ("bucket=b", &full, "region is missing"),
            ("bucket=b,region=r", &bare, "no access key"),
            ("bucket=b,region=r,access_key_id=id", &full, "access_key_id and secret_access_key belong together"),
            ("bucket=b,region=r,use_path_style=1", &full, "use_path_style is true or false"),
            ("bucket=b,region=r,endpoint_url=s3.example", &full, "the endpoint is not an http or https URL"),
            ("bucket=b,region=r,endpoint_url=http://10.0.0.1,use_path_style=false", &full, "the bucket has a name"),
            ("bucket=b,region=r,blobs_prefix=x", &full, "the attribute blobs_prefix is not supported"),
            ("bucket=b,region=r,ref=x", &full, "the attribute ref is not supported"),
            ("bucket=b,region=r,secret_access_key=hidden,session_token=hidden", &full, "belong together"),
            ("bucket=b,region=r,\"secret_access_key=hidden,hidden\"", &full, "belong together"),
            ("bucket=b,\"region=r\"x,secret_access_key=hidden", &full, "want a comma after the closing quote"),
        ] {
            let failure = from(&format!("type=s3,{rest}"), environment).expect_err(rest);
            assert!(failure.message.contains(why), "{rest}: {}", failure.message);
            assert!(!failure.message.contains("hidden"), "{rest}: {}", failure.message);
        }
        let elsewhere = from("type=registry,ref=c,SECRET_ACCESS_KEY=hidden", &full).expect_err("not of a registry");
        assert!(!elsewhere.message.contains("hidden"), "{}", elsewhere.message);
    }
}
