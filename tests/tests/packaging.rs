//! What is shipped beside the program: that its parts fit each other, and that the host takes the files made for it.

use std::fs;
use std::path::PathBuf;

use conet_tests::artifacts;
use conet_tests::config::Config;
use conet_tests::host::Launch;

fn shipped(path: &str) -> String {
    let path: PathBuf = artifacts::workspace().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The file that the Pods run, with nothing but paths and ports of this machine's.
#[test]
fn the_host_serves_the_file_of_the_kubernetes_example() {
    let scratch = artifacts::scratch().join("packaging");
    let echo = artifacts::guest("echo-handler");
    let mut text = shipped("packaging/kubernetes/conet.toml");
    for (there, here) in [
        ("\"/srv/conet/echo-handler.wasm\"", format!("{echo:?}")),
        ("\"/var/cache/conet/code\"", format!("{:?}", artifacts::code_cache())),
        ("\"/run/conet/admin.sock\"", format!("{:?}", scratch.with_extension("sock"))),
        ("\"0.0.0.0:7000\"", "\"127.0.0.1:0\"".to_owned()),
        ("\"0.0.0.0:7071\"", "\"127.0.0.1:0\"".to_owned()),
    ] {
        assert_eq!(text.matches(there).count(), 1, "{there} in {text}");
        text = text.replace(there, &here);
    }
    let config = Config::of(text);
    Launch::check(&config).finish().assert_code(0);
    let host = Launch::serve(&config).start();
    conet_tests::peer::echo_exact(host.connect_to("echo"), 1000);
    host.stop();
}

/// Ports, folders and times are written down in several places.
#[test]
fn the_kubernetes_example_agrees_with_itself_and_with_the_image() {
    let (conet, pod) =
        (shipped("packaging/kubernetes/conet.toml"), shipped("packaging/kubernetes/deployment.yaml"));
    let number = |text: &str, before: &str| -> u64 {
        let rest = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {text}")).1;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("no number after {before:?}"))
    };
    let port = |name: &str| number(&pod, &format!("- name: {name}\n              containerPort: "));
    assert_eq!(number(&conet, "listen = [\"0.0.0.0:"), port("echo"));
    assert_eq!(number(&conet, "probe-address = \"0.0.0.0:"), port("probes"));
    let grace = number(&pod, "terminationGracePeriodSeconds: ");
    let before_sigterm = number(&pod, "sleep:\n                seconds: ");
    assert!(
        before_sigterm + number(&conet, "drain = \"") < grace,
        "the drain is cut short: {grace} s in all"
    );
    assert_eq!(number(&conet, "workers = "), number(&pod, "limits: {cpu: \""));

    let image = shipped("Dockerfile");
    for folder in ["/etc/conet", "/srv/conet", "/var/cache/conet", "/run/conet"] {
        assert!(image.contains(&format!(" {folder}\n")), "no {folder} in the image");
        assert!(pod.contains(&format!("mountPath: {folder}\n")), "no {folder} in the Pod");
    }
    assert_eq!(number(&image, "USER "), number(&pod, "runAsUser: "));
    for text in [&image, &pod] {
        assert!(!text.contains(":latest"), "an image whose version is left open");
    }
}
