//! `knarr key`: who may do what.

use clap::Subcommand;
use knarr_base::right::Right;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::Client;
use crate::failure::Result;
use crate::output::{Output, table};

/// Make, list and revoke access keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Make a key; its secret is shown this once.
    #[command(after_help = "\
Rights: read write delete export import confirm admin, or `all`.
A pattern is a name, or a prefix and `*`; it is matched against collections and buckets alike.

Examples:
  knarr key create --label reports --grant 'read,export:shop_*' --grant 'read,export:reports'
  knarr key create --label boss --grant 'all:*'
  knarr key create --label approver --grant 'read,confirm:*'")]
    Create {
        /// RIGHT[,RIGHT...]:PATTERN; may be given several times.
        #[arg(long = "grant", value_name = "GRANT", required = true, value_parser = GrantSpec::parse)]
        grants: Vec<GrantSpec>,
        /// What the key is for.
        #[arg(long, default_value = "")]
        label: String,
    },
    /// List keys, without secrets.
    #[command(after_help = "Example:\n  knarr key list --json")]
    List,
    /// Revoke a key; requests signed with it are refused from now on.
    #[command(after_help = "Example:\n  knarr key revoke AKLT0123456789abcdef")]
    Revoke {
        /// The public half.
        access_key: String,
    },
}

/// Rights on names, as the wire writes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GrantSpec {
    rights: Vec<String>,
    pattern: String,
}

impl GrantSpec {
    fn parse(text: &str) -> Result<Self, String> {
        let (rights, pattern) =
            text.split_once(':').ok_or("write RIGHT[,RIGHT...]:PATTERN, for example read:shop_*")?;
        let rights: Vec<Right> = if rights == "all" {
            Right::ALL.to_vec()
        } else {
            let known = |name| Right::parse(name).ok_or_else(|| format!("{name:?} is not a right"));
            rights.split(',').map(known).collect::<Result<_, _>>()?
        };
        if pattern.is_empty() {
            return Err("the pattern after ':' is empty".to_owned());
        }
        Ok(Self { rights: rights.into_iter().map(|r| r.name().to_owned()).collect(), pattern: pattern.to_owned() })
    }

    fn text(&self) -> String {
        format!("{}:{}", self.rights.join(","), self.pattern)
    }
}

#[derive(Deserialize)]
struct Created {
    access_key: String,
    secret_key: String,
}

#[derive(Deserialize)]
struct View {
    access_key: String,
    #[serde(default)]
    label: String,
    #[serde(default)]
    grants: Vec<GrantSpec>,
    #[serde(default)]
    create_time: String,
    revoke_time: Option<String>,
}

pub(crate) fn run(args: Args, client: &Client, out: &Output) -> Result<()> {
    match args {
        Args::Create { grants, label } => {
            let data = client.call("/knarr/v1/keys/create", &json!({"label": label, "grants": grants}))?;
            let Created { access_key, secret_key } = data.read()?;
            out.show(data.text(), || crate::keyfile::shell_lines(&access_key, &secret_key).trim_end().to_owned())
        }
        Args::List => {
            let data = client.call("/knarr/v1/keys/list", &json!({}))?;
            let found: Vec<View> = data.read()?;
            out.show(data.text(), || {
                let rows = found.iter().map(|k| {
                    let grants = k.grants.iter().map(GrantSpec::text).collect::<Vec<_>>().join("\n");
                    let revoked = k.revoke_time.clone().unwrap_or_default();
                    [k.access_key.clone(), k.label.clone(), grants, k.create_time.clone(), revoked]
                });
                table(["access key", "label", "grants", "created", "revoked"], rows)
            })
        }
        Args::Revoke { access_key } => {
            client.call("/knarr/v1/keys/revoke", &json!({"access_key": access_key}))?;
            out.show(&json!({"access_key": access_key}).to_string(), || format!("revoked {access_key}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_name_known_rights_and_a_pattern() {
        let grant = GrantSpec::parse("read,export:shop_*").expect("valid");
        assert_eq!(grant, GrantSpec { rights: vec!["read".into(), "export".into()], pattern: "shop_*".into() });
        assert_eq!(GrantSpec::parse("all:*").expect("valid").rights.len(), Right::ALL.len());
        for bad in ["", "read", "read:", "fly:*", "read,:x"] {
            assert!(GrantSpec::parse(bad).is_err(), "{bad}");
        }
    }
}
