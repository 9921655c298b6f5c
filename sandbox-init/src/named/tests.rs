use std::os::unix::fs::symlink;

use super::*;

/// A folder below `/tmp` that is removed with its content.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/tmp/bulkhead-named-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("src/deep")).unwrap();
        fs::write(path.join("src/a"), "a").unwrap();
        fs::create_dir(path.join(".hidden")).unwrap();
        fs::write(path.join(".hidden/b"), "b").unwrap();
        Self(path)
    }

    fn link(&self, name: &str, target: &str) {
        symlink(target, self.0.join(name)).unwrap();
    }

    fn check(&self, path: &str) -> Result<(), Unfit> {
        self.look(path, false)
    }

    fn follow(&self, path: &str) -> Result<(), Unfit> {
        self.look(path, true)
    }

    fn look(&self, path: &str, follows_links: bool) -> Result<(), Unfit> {
        let path = self.0.join(path).to_str().unwrap().to_owned();
        check(&[NamedPath { path, follows_links }])
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_no_link_passes_whether_it_is_there_or_not() {
    let folder = Folder::new("plain");
    for path in ["", "src/a", "src/./a", "src//deep/", "missing", "src/a/below", ".hidden/b"] {
        assert_eq!(folder.check(path), Ok(()), "{path}");
    }
    assert_eq!(folder.check(&"x".repeat(300)), Ok(()));
    assert_eq!(folder.follow("src/a"), Ok(()));
    assert_eq!(folder.follow("missing"), Ok(()));
}

#[test]
fn links_inside_pass_and_those_that_lead_elsewhere_do_not() {
    let folder = Folder::new("links");
    folder.link("good", "src/a");
    folder.link("deep", "src/deep");
    folder.link("chain", "deep/../a");
    folder.link("absolute", folder.0.join("src/a").to_str().unwrap());
    for path in ["good", "deep", "deep/missing-is-fine-but-link-is-followed", "chain", "absolute"] {
        let expected = if path.contains("missing") { Err(Unfit::Link) } else { Ok(()) };
        assert_eq!(folder.check(path), expected, "{path}");
    }
    for (name, target) in [
        ("out", "/etc/passwd"),
        ("up", "../../etc/passwd"),
        ("etc", "/etc"),
        ("root", "/"),
        ("proc", "/proc/self/environ"),
        ("magic", "/proc/self/cwd"),
        ("cover", ".hidden/b"),
        ("dangling", "nowhere"),
        ("loop", "loop"),
        ("twice", "out"),
    ] {
        folder.link(name, target);
        assert_eq!(folder.check(name), Err(Unfit::Link), "{name}");
    }
    assert_eq!(folder.check("etc/passwd"), Err(Unfit::Link));
    assert_eq!(folder.check("root/proc/1/environ"), Err(Unfit::Link));
    // What the name shows is no secret of the link.
    folder.link(".hidden/c", "b");
    assert_eq!(folder.check(".hidden/c"), Ok(()));
}

#[test]
fn who_follows_links_is_led_out_by_none() {
    let folder = Folder::new("follow");
    folder.link("src/deep/back", "../..");
    folder.link("src/nowhere", "missing");
    folder.link("src/hidden", "../.hidden");
    // Beneath the whole folder the hidden one is found without links.
    assert_eq!(folder.follow(""), Ok(()));
    assert_eq!(folder.follow("src"), Err(Unfit::Link));
    assert_eq!(folder.check("src"), Ok(()));
    // A link to a folder beside it, in which there is one that leads out.
    let other = Folder::new("beside");
    folder.link("src/deep/beside", other.0.to_str().unwrap());
    assert_eq!(folder.follow(""), Ok(()));
    other.link("src/out", "/etc");
    assert_eq!(folder.follow(""), Err(Unfit::Link));
    assert_eq!(other.check("src"), Ok(()));
}

#[test]
fn there_is_an_end_to_looking() {
    let folder = Folder::new("end");
    for number in 0..MAX_ENTRIES {
        fs::write(folder.0.join(format!("src/{number}")), "").unwrap();
    }
    assert_eq!(folder.follow(""), Err(Unfit::TooMany));
    assert_eq!(folder.check(""), Ok(()));
    let path = NamedPath { path: "/work/a".into(), follows_links: false };
    assert_eq!(check(&vec![path.clone(); MAX_PATHS]), Ok(()));
    assert_eq!(check(&vec![path; MAX_PATHS + 1]), Err(Unfit::TooMany));
}
