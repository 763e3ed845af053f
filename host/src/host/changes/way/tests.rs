use std::os::unix::fs::symlink;

use super::*;

/// Each name on the way, below `root`, and what it is.
fn steps(root: &Path, path: &Path) -> Vec<(String, Step)> {
    let mut way = Way::to(path).expect("a working folder");
    let mut steps = Vec::new();
    while let Some((folder, name)) = way.next() {
        let step = way.follow(&name);
        if let Ok(below) = folder.join(name).strip_prefix(root)
            && below != Path::new("")
        {
            steps.push((below.display().to_string(), step));
        }
    }
    steps
}

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("conet-way-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).expect("a scratch folder");
    folder.canonicalize().expect("it is there")
}

#[test]
fn a_config_map_is_followed_through_both_of_its_links() {
    let root = scratch("map");
    fs::create_dir(root.join("..2026")).expect("a folder");
    fs::write(root.join("..2026/conet.toml"), "").expect("a file");
    symlink("..2026", root.join("..data")).expect("a link");
    symlink("..data/conet.toml", root.join("conet.toml")).expect("a link");
    let expected = [
        ("conet.toml", Step::Link),
        ("..data", Step::Link),
        ("..2026", Step::Folder),
        ("..2026/conet.toml", Step::End),
    ];
    assert_eq!(steps(&root, &root.join("conet.toml")), expected.map(|(name, step)| (name.to_owned(), step)));
    fs::remove_dir_all(root).expect("it is ours");
}

#[test]
fn what_is_missing_is_waited_for_where_it_would_be() {
    let root = scratch("missing");
    let expected = [("no".to_owned(), Step::End)];
    assert_eq!(steps(&root, &root.join("no/such/file")), expected);
    fs::remove_dir_all(root).expect("it is ours");
}

#[test]
fn parents_are_those_of_where_a_link_leads() {
    let root = scratch("parents");
    fs::create_dir_all(root.join("one/two")).expect("folders");
    fs::write(root.join("one/file"), "").expect("a file");
    symlink(root.join("one/two"), root.join("link")).expect("a link");
    let steps = steps(&root, &root.join("link/../file"));
    assert_eq!(steps.last(), Some(&("one/file".to_owned(), Step::End)));
    fs::remove_dir_all(root).expect("it is ours");
}

#[test]
fn links_in_a_circle_end() {
    let root = scratch("circle");
    symlink("b", root.join("a")).expect("a link");
    symlink("a", root.join("b")).expect("a link");
    assert_eq!(steps(&root, &root.join("a/file")).len(), LINKS_MAX + 1);
    fs::remove_dir_all(root).expect("it is ours");
}
