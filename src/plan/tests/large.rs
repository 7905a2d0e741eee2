//! Large and deep input: every limit is an error, and nothing grows with the square of the input. Without
//! the limits some of these take minutes, or all memory.

use super::*;

fn refused(text: &str) -> String {
    let error = plain(text).err();
    error.unwrap_or_else(|| panic!("accepted")).to_string()
}

#[test]
fn ten_thousand_instructions() {
    let text: String = (0..10_000)
        .map(|n| format!("ENV V{n}=${{V{}:-x}}\n", n / 2))
        .collect();
    let (state, steps) = plain(&text).unwrap();
    assert_eq!(steps.len(), 10_000);
    assert_eq!(state.environment().get("V9999"), Some("x"));
}

#[test]
fn a_thousand_stages() {
    let mut text = String::from("FROM a AS s0\n");
    for n in 1..1000 {
        text.push_str(&format!(
            "FROM s{} AS s{n}\nCOPY --from={} /x /x\n",
            n - 1,
            n / 2
        ));
    }
    let plan = plan_with(&text, &options(&[], None)).unwrap();
    assert_eq!(plan.stages().len(), 1000);
    let back: String = (0..1000)
        .map(|n| format!("FROM a AS r{n}\nCOPY --from=r{} / /\n", n + 1))
        .collect();
    let wrong = plan_with(&back, &options(&[], Some("r0"))).unwrap_err();
    assert_eq!(wrong.len(), 999, "every stage needs the one below it");
}

#[test]
fn a_hundred_thousand_words() {
    let words = |word: &str| {
        (0..100_000)
            .map(|n| word.replace("{}", &n.to_string()))
            .collect::<Vec<_>>()
            .join(" \\\n")
    };
    let (state, _) = plain(&format!("ENV {}", words("V{}=x"))).unwrap();
    assert_eq!(state.environment().get("V99999"), Some("x"));
    let (state, _) = plain(&format!("ARG {}", words("V{}=x"))).unwrap();
    assert_eq!(state.environment().get("V99999"), Some("x"));
    let (_, steps) = plain(&format!("COPY {} /d/", words("f{}"))).unwrap();
    assert!(matches!(&steps[0].kind, StepKind::Copy(copy) if copy.sources.len() == 100_000));
    let (state, _) = plain(&format!("ONBUILD COPY {} /d/", words("f{}"))).unwrap();
    assert!(state.config().config.on_build[0].len() > 500_000);
    plain(&format!("LABEL {}", words("l{}=x"))).unwrap();
}

#[test]
fn many_heredocs_of_one_instruction() {
    let names: Vec<String> = (0..10_000).map(|n| format!("<<f{n}")).collect();
    let bodies: String = (0..10_000).map(|n| format!("{n}\nf{n}\n")).collect();
    let (_, steps) = plain(&format!("COPY {} /d/\n{bodies}", names.join(" \\\n"))).unwrap();
    let StepKind::Copy(copy) = &steps[0].kind else {
        panic!("no COPY");
    };
    assert_eq!(
        (copy.heredocs.len(), copy.heredocs[9999].content.as_str()),
        (10_000, "9999\n")
    );
}

#[test]
fn values_that_double() {
    let text = format!("ENV A=0123456789abcdef\n{}", "ENV A=$A$A\n".repeat(64));
    assert!(refused(&text).contains("KiB longer"));
    let text = format!(
        "ENV A=0123456789abcdef\n{}",
        "ENV A=${A//?/$A}\n".repeat(64)
    );
    assert!(refused(&text).contains("KiB longer"));
    let quoted = format!("ENV A=0123456789abcdef\n{}", "ENV A=\"$A$A\"\n".repeat(64));
    assert!(refused(&quoted).contains("KiB longer"));
}

#[test]
fn a_history_of_long_values() {
    let long = format!("ENV A={}\n", "0123456789abcdef".repeat(4000));
    let text = format!("{long}{}", "LABEL l=$A$A$A$A$A$A$A$A\n".repeat(1000));
    assert!(refused(&text).contains("history of this image is longer than 16 MiB"));
}

#[test]
fn ports_of_ports() {
    let text = format!("EXPOSE {}", "0-65535 \\\n".repeat(10_000));
    assert!(refused(&text).contains("more than 196608 ports"));
    let all = "EXPOSE 0-65535/tcp 0-65535/udp 0-65535/sctp";
    assert_eq!(
        plain(all).unwrap().0.config().config.exposed_ports.len(),
        196_608
    );
}

#[test]
fn deep_nesting_and_long_lines() {
    let deep = format!("ENV A={}{}", "${A:-".repeat(5000), "}".repeat(5000));
    assert!(refused(&deep).contains("nested more than 64 deep"));
    let quoted = format!("ENV A={}{}", "\"${A:-".repeat(5000), "}\"".repeat(5000));
    assert!(refused(&quoted).contains("nested more than 64 deep"));
    let fine = format!("ENV A={}x{}", "${A:-".repeat(64), "}".repeat(64));
    assert_eq!(plain(&fine).unwrap().0.environment().get("A"), Some("x"));
    let long = format!("ENV A={}", "${B:-x}".repeat(8000));
    assert_eq!(
        plain(&long)
            .unwrap()
            .0
            .environment()
            .get("A")
            .unwrap()
            .len(),
        8000
    );
    let patterns = format!(
        "ENV B={}\nENV A={}",
        "ab".repeat(30_000),
        "${B%%a*b*}".repeat(5000)
    );
    let error = refused(&patterns);
    assert!(error.contains("too long"), "{error}");
}
