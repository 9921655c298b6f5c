//! Repositories made by hand, harmless ones and hostile ones.

use std::fs;
use std::os::unix::fs::symlink;

use protocol::checks::Unfit;
use protocol::git::MAX_FOLDERS;

use super::check;
use super::index::tests::{entry, index};
use crate::files::scratch::Scratch;

const SETTINGS: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n";

/// A workspace with a repository at its top and a folder `src` in it.
fn repository() -> Scratch {
    let scratch = Scratch::new();
    for folder in [".git/objects", ".git/refs/heads", "src/deep"] {
        fs::create_dir_all(scratch.at(folder)).expect("folder");
    }
    fs::write(scratch.at(".git/HEAD"), "ref: refs/heads/main\n").expect("HEAD");
    fs::write(scratch.at(".git/config"), SETTINGS).expect("config");
    let bytes = index(2, &[entry(0o100_644, "a", 0)], &[]);
    fs::write(scratch.at(".git/index"), bytes).expect("index");
    scratch
}

fn look(scratch: &Scratch, folder: &str) -> Result<(), Unfit> {
    check(&[scratch.at(folder).display().to_string()])
}

#[test]
fn a_plain_repository_is_fit_wherever_one_stands_in_it() {
    let scratch = repository();
    for folder in ["", "src", "src/deep", "src/../src"] {
        assert_eq!(look(&scratch, folder), Ok(()), "{folder}");
    }
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(look(&Scratch::new(), ""), Ok(()), "no repository at all");
}

#[test]
fn one_without_settings_or_index_is_fit() {
    let scratch = repository();
    fs::remove_file(scratch.at(".git/index")).expect("index");
    assert_eq!(look(&scratch, ""), Ok(()));
    fs::remove_file(scratch.at(".git/config")).expect("config");
    assert_eq!(look(&scratch, "src"), Ok(()));
}

#[test]
fn a_setting_is_found_from_every_folder_below() {
    let scratch = repository();
    fs::write(scratch.at(".git/config"), "[diff]\n\texternal = touch pwned\n").expect("config");
    for folder in ["", "src", "src/deep"] {
        assert_eq!(look(&scratch, folder), Err(Unfit::Setting), "{folder}");
    }
    let empty = Scratch::new();
    let folders = [empty.at(""), scratch.at("src")];
    assert_eq!(check(&folders.map(|folder| folder.display().to_string())), Err(Unfit::Setting));
}

#[test]
fn a_repository_within_another_does_not_hide_it() {
    let scratch = repository();
    fs::create_dir_all(scratch.at("src/.git")).expect("folder");
    assert_eq!(look(&scratch, "src/deep"), Ok(()));
    fs::write(scratch.at(".git/config"), "[include]\n\tpath = x\n").expect("config");
    assert_eq!(look(&scratch, "src/deep"), Err(Unfit::Setting));
}

#[test]
fn a_submodule_is_unfit() {
    let scratch = repository();
    let bytes = index(2, &[entry(0o160_000, "sub", 0)], &[]);
    fs::write(scratch.at(".git/index"), bytes).expect("index");
    assert_eq!(look(&scratch, "src"), Err(Unfit::Submodule));
}

#[test]
fn what_leads_elsewhere_is_unfit() {
    let scratch = repository();
    fs::write(scratch.at("src/.git"), "gitdir: /tmp/evil\n").expect("file");
    assert_eq!(look(&scratch, "src"), Err(Unfit::Elsewhere));
    fs::remove_file(scratch.at("src/.git")).expect("file");
    symlink("../.git", scratch.at("src/.git")).expect("link");
    assert_eq!(look(&scratch, "src"), Err(Unfit::Elsewhere));
    fs::remove_file(scratch.at("src/.git")).expect("link");
    symlink("/nowhere", scratch.at("src/.git")).expect("link");
    assert_eq!(look(&scratch, "src"), Err(Unfit::Elsewhere));
    for name in ["config", "index"] {
        let scratch = repository();
        fs::rename(scratch.at(".git").join(name), scratch.at(name)).expect("moves");
        symlink(scratch.at(name), scratch.at(".git").join(name)).expect("link");
        assert_eq!(look(&scratch, ""), Err(Unfit::Elsewhere), "{name}");
    }
    let scratch = repository();
    fs::write(scratch.at(".git/commondir"), "..\n").expect("file");
    assert_eq!(look(&scratch, ""), Err(Unfit::Elsewhere));
}

#[test]
fn a_folder_that_is_a_repository_itself_is_unfit() {
    let scratch = repository();
    assert_eq!(look(&scratch, ".git"), Err(Unfit::Bare));
    fs::write(scratch.at("src/HEAD"), "ref: refs/heads/main\n").expect("HEAD");
    assert_eq!(look(&scratch, "src"), Ok(()), "a file of that name is no repository");
    fs::create_dir(scratch.at("src/objects")).expect("folder");
    assert_eq!(look(&scratch, "src/deep"), Err(Unfit::Bare));
    fs::remove_dir(scratch.at("src/objects")).expect("folder");
    fs::write(scratch.at("src/commondir"), "/tmp/evil\n").expect("file");
    assert_eq!(look(&scratch, "src/deep"), Err(Unfit::Bare));
}

#[test]
fn the_real_folder_counts_and_not_its_name() {
    let (scratch, evil) = (repository(), repository());
    fs::write(evil.at(".git/config"), "[alias]\n\tx = y\n").expect("config");
    symlink(evil.at("src"), scratch.at("there")).expect("link");
    assert_eq!(look(&scratch, "there"), Err(Unfit::Setting));
}

#[test]
fn what_cannot_be_read_is_unfit() {
    let scratch = repository();
    assert_eq!(look(&scratch, "missing"), Err(Unfit::Unreadable));
    for name in ["config", "index"] {
        let scratch = repository();
        fs::remove_file(scratch.at(".git").join(name)).expect("file");
        fs::create_dir(scratch.at(".git").join(name)).expect("folder");
        assert_eq!(look(&scratch, ""), Err(Unfit::Unreadable), "{name}");
        fs::remove_dir(scratch.at(".git").join(name)).expect("folder");
        let pipe = scratch.at(".git").join(name);
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("pipe");
        assert_eq!(look(&scratch, ""), Err(Unfit::Unreadable), "{name}: a pipe");
    }
}

#[test]
fn what_is_too_large_is_unfit() {
    let scratch = repository();
    fs::write(scratch.at(".git/config"), "#\n".repeat(40_000)).expect("config");
    assert_eq!(look(&scratch, ""), Err(Unfit::TooLarge));
    let scratch = repository();
    let index = fs::File::create(scratch.at(".git/index")).expect("index");
    index.set_len(super::MAX_INDEX_BYTES + 1).expect("length");
    assert_eq!(look(&scratch, ""), Err(Unfit::TooLarge));
    let many = vec![repository().work.display().to_string(); MAX_FOLDERS + 1];
    assert_eq!(check(&many), Err(Unfit::TooLarge));
}
