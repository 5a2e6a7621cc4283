//! nft missing, failing, refusing; how often it is run.

use super::*;

#[test]
fn without_nft_everything_fails_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut tables = Tables::by(Drive::Command);
    tables.firewall = Nft::with_path(&[], &[], path).unwrap();
    let failure = tables.firewall.establish(&doors(), &[]).unwrap_err();
    assert_eq!(
        failure.to_string(),
        format!("cannot run nft: not found in {path}")
    );
    let done = carry_out(&mut tables.firewall, &[open(0, CLIENT_4, 600)]);
    assert!(done[0].result.is_err());
    // It is taken away while we run, and comes back.
    link(dir.path());
    tables.firewall.establish(&doors(), &[]).unwrap();
    std::fs::remove_file(dir.path().join("nft")).unwrap();
    let done = carry_out(&mut tables.firewall, &[open(0, CLIENT_4, 600)]);
    let failure = done[0].result.clone().unwrap_err();
    assert!(matches!(failure, Failure::NotRun { .. }), "{failure}");
    assert!(tables.firewall.uphold(&[]).is_err());
    assert!(tables.firewall.openings().is_err());
    link(dir.path());
    tables.obey(&[open(0, CLIENT_4, 600)]);
}

pub fn link(dir: &Path) {
    let nft = postern::firewall::run::find("nft", postern::firewall::run::PATH).unwrap();
    std::os::unix::fs::symlink(nft, dir.join("nft")).unwrap();
}

/// A script in nft's place. Written by a process of its own: what one of ours has open to
/// write cannot be run.
pub fn in_nfts_place(dir: &Path, script: &str) {
    let quoted = script.replace('\'', r"'\''");
    let file = dir.join("nft");
    let write = format!("printf '%s' '{quoted}' >{0}; chmod 700 {0}", file.display());
    let status = std::process::Command::new("sh")
        .args(["-c", &write])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_failure_is_retried_once_and_told_with_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let (path, tries) = (dir.path().to_str().unwrap(), dir.path().join("tries"));
    let mut tables = Tables::by(Drive::Command);
    // It fails as often as the file says.
    in_nfts_place(
        dir.path(),
        &format!(
            "#!/bin/sh\n\
             if [ \"$1\" = -f ]; then\n\
             read n <{0}; echo $((n - 1)) >{0}\n\
             if [ $n -gt 0 ]; then echo 'Error: no luck' >&2; exit 1; fi\n\
             fi\n\
             exec nft \"$@\"\n",
            tries.display()
        ),
    );
    let fail = |times: &str| std::fs::write(&tries, format!("{times}\n")).unwrap();
    fail("0");
    tables.firewall = Nft::with_path(&[INTERFACE.to_owned()], &[], path).unwrap();
    tables.firewall.establish(&doors(), &[]).unwrap();
    fail("1");
    tables.obey(&[open(0, CLIENT_4, 600)]);
    assert_eq!(tables.let_in(), BTreeSet::from([opening(0, CLIENT_4)]));
    fail("9");
    let done = carry_out(&mut tables.firewall, &[open(0, CLIENT_6, 600)]);
    assert_eq!(
        done[0].result.clone().unwrap_err().to_string(),
        "nft -f -: exit status 1: no luck"
    );
    assert_eq!(
        std::fs::read_to_string(&tries).unwrap(),
        "7\n",
        "tried twice"
    );
    assert_eq!(tables.let_in(), BTreeSet::from([opening(0, CLIENT_4)]));
}

/// Looking whether all stands as it should costs a process only after somebody else has changed
/// something.
#[test]
fn orders_cost_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let (path, log) = (dir.path().to_str().unwrap(), dir.path().join("log"));
    let mut tables = Tables::by(Drive::Command);
    in_nfts_place(
        dir.path(),
        &format!(
            "#!/bin/sh\necho \"$*\" >>{}; exec nft \"$@\"\n",
            log.display()
        ),
    );
    tables.firewall = Nft::with_path(&[INTERFACE.to_owned()], &[], path).unwrap();
    tables.firewall.establish(&doors(), &[]).unwrap();
    let mut run = |orders: &[Order]| {
        let _ = std::fs::remove_file(&log);
        tables.obey(orders);
        std::fs::read_to_string(&log).unwrap()
    };
    assert_eq!(
        run(&[open(0, CLIENT_4, 600), open(1, CLIENT_6, 600)]),
        "-f -\n"
    );
    assert_eq!(run(&[extend(0, CLIENT_4, 600)]), "-f -\n");
    nft("add table inet other");
    let list = "-j -a list table inet postern\n";
    assert_eq!(run(&[close(0, CLIENT_4)]), format!("{list}-f -\n"));
    assert_eq!(run(&[close(1, CLIENT_6)]), "-f -\n");
}
