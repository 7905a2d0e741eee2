//! What is told besides findings, and findings for programs.

use super::*;

#[test]
fn the_outline_of_a_target() {
    let text = "# V is the version\nARG V=1\nARG UNUSED\nARG IMAGE=a:$V\n\
                FROM $IMAGE AS b\n# P has a meaning\nARG P=${V}x Q\nARG V\n\
                RUN --mount=type=secret,id=s --mount=type=ssh,required=true \
                --mount=type=cache,target=/c x\n\
                RUN --mount=type=secret,id=s,required=true x\n\
                FROM c AS other\nARG OTHER\n# t does it\nFROM b AS t\n";
    let dockerfile = parse(text).unwrap();
    let plan = Plan::new(&dockerfile, &PlanOptions::default()).unwrap();
    let told = outline(&dockerfile, &plan).json(text);
    assert_eq!(told["name"], "t");
    assert_eq!(told["description"], "does it");
    let args: Vec<_> = told["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| &arg["name"])
        .collect();
    assert_eq!(args, ["IMAGE", "P", "Q", "V"]);
    assert_eq!(told["args"][0]["value"], "a:1");
    assert_eq!(told["args"][1]["description"], "has a meaning");
    assert_eq!(told["args"][2].get("value"), None);
    assert_eq!(told["args"][3]["description"], "is the version");
    assert_eq!(told["secrets"][0]["name"], "s");
    assert_eq!(told["secrets"][0]["required"], true);
    assert_eq!(told["secrets"].as_array().unwrap().len(), 1);
    assert_eq!(told["ssh"][0]["name"], "default");
    assert_eq!(told["cache"][0]["ID"], "/c");
}

#[test]
fn the_targets_of_a_file() {
    let text = "# build makes it\nFROM --platform=$BUILDPLATFORM a:$V AS Build\n# not about it\nFROM build";
    let told = targets_json(&targets(&parse(text).unwrap()), text);
    assert_eq!(told["targets"][0]["name"], "build");
    assert_eq!(told["targets"][0]["description"], "makes it");
    assert_eq!(told["targets"][0]["base"], "a:$V");
    assert_eq!(told["targets"][0]["platform"], "$BUILDPLATFORM");
    assert_eq!(told["targets"][0].get("default"), None);
    assert_eq!(told["targets"][1]["default"], true);
    assert_eq!(told["targets"][1].get("description"), None);
    assert_eq!(
        told["targets"][1]["location"]["ranges"][0]["start"]["line"],
        4
    );
}

#[test]
fn findings_for_programs() {
    let text = "FROM a as b\nCMD \u{e9} x\n";
    let report = found_with(text, &[], "", None);
    let file = Checked {
        name: "d/Dockerfile".into(),
        text: text.into(),
        findings: report.findings,
        errors: Vec::new(),
    };
    let json = findings_json(std::slice::from_ref(&file));
    assert_eq!(json["warnings"][0]["ruleName"], "FromAsCasing");
    assert_eq!(
        json["warnings"][1]["location"]["ranges"][0]["start"]["line"],
        2
    );
    assert_eq!(json["sources"][0]["filename"], "d/Dockerfile");
    assert_eq!(json.get("buildError"), None);

    let sarif = sarif(&[file], "1.0");
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(
            run["tool"]["driver"]["rules"][index]["id"],
            result["ruleId"]
        );
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "d/Dockerfile");
    }
    let region = &run["results"][1]["locations"][0]["physicalLocation"]["region"];
    assert_eq!(
        (&region["startLine"], &region["startColumn"]),
        (&2.into(), &5.into())
    );
    assert_eq!(
        (&region["endLine"], &region["endColumn"]),
        (&2.into(), &8.into())
    );
}
