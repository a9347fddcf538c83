//! What a key may do (design: control plane). One list for every dialect.

/// One right; a key holds some of them on name patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Right {
    /// Info, list, fetch, search, task info.
    Read,
    /// Upsert and update of rows.
    Write,
    /// del_data, del_all, filter_delete.
    Delete,
    /// data_export and the backup of a delete, on the collection and on the bucket.
    Export,
    /// data_import.
    Import,
    /// task/update to `confirmed`.
    Confirm,
    /// Create, update and drop collections; keys; buckets; other creators' tasks.
    Admin,
}

impl Right {
    /// Every right, in the order help texts list them.
    pub const ALL: [Right; 7] =
        [Right::Read, Right::Write, Right::Delete, Right::Export, Right::Import, Right::Confirm, Right::Admin];

    /// Lower-case name, as stored and as written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Right::Read => "read",
            Right::Write => "write",
            Right::Delete => "delete",
            Right::Export => "export",
            Right::Import => "import",
            Right::Confirm => "confirm",
            Right::Admin => "admin",
        }
    }

    /// The right of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name)
    }
}

/// Rights on names. A pattern is a literal name, or a prefix followed by `*` (`*` alone matches everything).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What may be done.
    pub rights: Vec<Right>,
    /// On which collections and buckets.
    pub pattern: String,
}

impl Grant {
    /// True if this grant gives `right` on `name`.
    pub fn allows(&self, right: Right, name: &str) -> bool {
        self.rights.contains(&right)
            && match self.pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => self.pattern == name,
            }
    }

    /// Every right on every name.
    pub fn everything() -> Self {
        Self { rights: Right::ALL.to_vec(), pattern: "*".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_literal_or_prefix() {
        let grant = |pattern: &str| Grant { rights: vec![Right::Read], pattern: pattern.to_owned() };
        assert!(grant("*").allows(Right::Read, "anything"));
        assert!(grant("shop_*").allows(Right::Read, "shop_items"));
        assert!(!grant("shop_*").allows(Right::Read, "shop"));
        assert!(!grant("shop").allows(Right::Read, "shop_items"));
        assert!(!grant("*").allows(Right::Write, "anything"));
        assert_eq!(Right::ALL.map(|r| Right::parse(r.name())), Right::ALL.map(Some));
    }
}
