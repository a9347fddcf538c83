//! Ordered names of a directory tree, a page at a time, in bounded memory.
//!
//! A directory is read as a whole for every page that it is part of, but only the names that the page can still take
//! are kept.

use std::collections::BinaryHeap;
use std::fs;
use std::io;
use std::path::Path;

use knarr_base::object::ObjectKey;

use super::local::behind_link;

/// Up to `limit` files below `root/prefix`, as paths relative to `root`, ascending by bytes, all of them after `after`.
/// Names that no object can have, links and other special files are passed over.
pub(super) fn names(root: &Path, prefix: &str, after: Option<&str>, limit: usize) -> io::Result<Vec<String>> {
    let mut page = Page { after: after.unwrap_or(""), limit, names: Vec::new() };
    let (dir, base) = match prefix {
        "" => (root.to_path_buf(), String::new()),
        prefix => (root.join(prefix), format!("{prefix}/")),
    };
    match behind_link(&dir, root) {
        Ok(false) => page.walk(&dir, &base)?,
        // As a link below the prefix is passed over, so is a prefix that leads through one.
        Ok(true) => {}
        Err(e) if is_missing(&e) => {}
        Err(e) => return Err(e),
    }
    Ok(page.names)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

struct Page<'a> {
    after: &'a str,
    limit: usize,
    names: Vec<String>,
}

impl Page<'_> {
    /// Adds what the directory holds. `base` is its path with a `/` at the end, or empty.
    fn walk(&mut self, dir: &Path, base: &str) -> io::Result<()> {
        let mut cursor = String::new();
        while self.names.len() < self.limit {
            let entries = self.next_entries(dir, base, &cursor)?;
            let Some(last) = entries.last() else { break };
            cursor.clone_from(last);
            for name in entries {
                if self.names.len() == self.limit {
                    return Ok(());
                }
                let path = format!("{base}{name}");
                match name.strip_suffix('/') {
                    Some(name) => self.walk(&dir.join(name), &path)?,
                    None => self.names.push(path),
                }
            }
        }
        Ok(())
    }

    /// The least names of the directory after `cursor`, as many as the page has room for. A directory's name carries
    /// a `/`, so that it sorts as its files' keys do.
    fn next_entries(&self, dir: &Path, base: &str, cursor: &str) -> io::Result<Vec<String>> {
        let room = self.limit - self.names.len();
        let mut least = BinaryHeap::new();
        let entries = match fs::read_dir(dir) {
            Err(e) if is_missing(&e) => return Ok(Vec::new()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(mut name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type()?;
            if ObjectKey::parse(&name).is_err() || (base.is_empty() && name.starts_with('.')) {
                continue;
            }
            if kind.is_dir() {
                name.push('/');
            } else if !kind.is_file() {
                continue;
            }
            let wanted = name.as_str() > cursor && self.may_follow(base, &name);
            if wanted && (least.len() < room || least.peek().is_some_and(|most| name < *most)) {
                least.push(name);
                if least.len() > room {
                    least.pop();
                }
            }
        }
        Ok(least.into_sorted_vec())
    }

    /// True for a file after `after`, and for a directory that may hold one.
    fn may_follow(&self, base: &str, name: &str) -> bool {
        let path = format!("{base}{name}");
        path.as_str() > self.after || (name.ends_with('/') && self.after.starts_with(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;

    #[test]
    fn pages_of_any_size_give_the_same_order() {
        let dir = tempfile::tempdir().unwrap();
        let keys = ["b/a", "b/a!", "b/a.x", "b/a0", "b/sub/1", "b/sub/2/x", "b/sub!", "b/sub0", "b/é", "c", "b/z/y/x"];
        for key in keys {
            let path = dir.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        for n in 0..5 {
            fs::create_dir(dir.path().join(format!("b/empty{n}"))).unwrap();
        }
        fs::create_dir(dir.path().join(".staging")).unwrap();
        fs::write(dir.path().join(".staging/0"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("b/link")).unwrap();
        let sorted: Vec<String> = keys.iter().map(|k| (*k).to_owned()).collect::<BTreeSet<_>>().into_iter().collect();
        for limit in 1..=keys.len() + 1 {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = names(dir.path(), "", after.as_deref(), limit).unwrap();
                assert!(page.len() <= limit);
                let Some(last) = page.last() else { break };
                after = Some(last.clone());
                found.extend(page);
            }
            assert_eq!(found, sorted, "pages of {limit}");
        }
        assert_eq!(names(dir.path(), "b/sub", Some("b/sub/1"), 9).unwrap(), ["b/sub/2/x"]);
        assert!(names(dir.path(), "b/nowhere", None, 9).unwrap().is_empty());
        assert!(names(dir.path(), "c", None, 9).unwrap().is_empty());
        std::os::unix::fs::symlink(dir.path().join("b"), dir.path().join("away")).unwrap();
        assert!(names(dir.path(), "away", None, 9).unwrap().is_empty(), "a prefix that is a link");
        assert!(names(dir.path(), "away/sub", None, 9).unwrap().is_empty(), "a prefix behind one");
    }
}
