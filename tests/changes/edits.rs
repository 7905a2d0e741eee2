//! Random changes of a model, and which inputs they touch.

use super::model::{Input, Kind, Model, Node};
use super::random::Random;

/// A change.
pub struct Edit {
    /// For people.
    pub what: String,
    pub touched: Vec<Input>,
    /// Whether a changed file keeps the time that it had.
    pub keep_times: bool,
}

impl Edit {
    fn new(what: impl Into<String>, touched: Vec<Input>) -> Self {
        Self {
            what: what.into(),
            touched,
            keep_times: false,
        }
    }
}

/// Changes the model in one way or another; what cannot be done with it is something else.
pub fn edit(model: &mut Model, random: &mut Random) -> Edit {
    loop {
        let done = match random.below(12) {
            0..=2 => content(model, random),
            3 => mode(model, random),
            4 => add(model, random),
            5 => delete_or_rename(model, random),
            6 => retarget(model, random),
            7 => ignore(model, random),
            8 => Some(argument(model)),
            9 | 10 => line(model, random),
            _ => nothing(model, random),
        };
        if let Some(edit) = done {
            return edit;
        }
    }
}

fn any_file(model: &Model, random: &mut Random) -> String {
    let paths: Vec<&String> = model.files.keys().collect();
    (*random.pick(&paths)).clone()
}

/// What a change of a file touches: nothing, if nobody sees the file.
fn seen(model: &Model, path: &str) -> Vec<Input> {
    match model.ignored.contains(path) {
        true => Vec::new(),
        false => vec![Input::Path(path.to_owned())],
    }
}

fn content(model: &mut Model, random: &mut Random) -> Option<Edit> {
    let path = any_file(model, random);
    let touched = seen(model, &path);
    let Some(Node::File { content, .. }) = model.files.get_mut(&path) else {
        return None;
    };
    let same_size = random.one_in(2);
    if same_size {
        // The last digit goes round.
        let last = content.pop()?.to_digit(10).unwrap_or(0);
        content.push(char::from_digit((last + 1) % 10, 10)?);
    } else {
        content.push_str(" 0");
    }
    let mut edit = Edit::new(format!("content of {path}"), touched);
    edit.keep_times = same_size;
    Some(edit)
}

fn mode(model: &mut Model, random: &mut Random) -> Option<Edit> {
    let path = any_file(model, random);
    let touched = seen(model, &path);
    let Some(Node::File { mode, .. }) = model.files.get_mut(&path) else {
        return None;
    };
    *mode = if *mode == 0o644 { 0o755 } else { 0o644 };
    Some(Edit::new(format!("mode of {path}"), touched))
}

fn add(model: &mut Model, random: &mut Random) -> Option<Edit> {
    model.next += 1;
    let dir = random.pick(&["", "a/", "a/sub/", "b/", "a/new/"]);
    let kind = random.pick(&["txt", "md"]);
    let path = format!("{dir}n{}.{kind}", model.next);
    let node = Node::File {
        content: format!("{path} 0"),
        mode: 0o644,
    };
    model.files.insert(path.clone(), node);
    let touched = vec![Input::Path(path.clone())];
    Some(Edit::new(format!("{path} is new"), touched))
}

fn delete_or_rename(model: &mut Model, random: &mut Random) -> Option<Edit> {
    let path = any_file(model, random);
    if path == "top" {
        // A COPY of it would fail; that is no property of the cache.
        return None;
    }
    let mut touched = seen(model, &path);
    let node = model.files.remove(&path)?;
    if random.one_in(2) {
        return Some(Edit::new(format!("{path} is gone"), touched));
    }
    model.next += 1;
    let new = format!("{path}{}", model.next);
    model.files.insert(new.clone(), node);
    touched.push(Input::Path(new.clone()));
    Some(Edit::new(format!("{path} is {new}"), touched))
}

fn retarget(model: &mut Model, random: &mut Random) -> Option<Edit> {
    let target = random.pick(&["z", "nowhere", "../a/x.txt"]);
    let Some(Node::Link(known)) = model.files.get_mut("b/link") else {
        return None;
    };
    if known == target {
        return None;
    }
    *known = (*target).to_owned();
    let touched = vec![Input::Path("b/link".into())];
    Some(Edit::new(format!("b/link leads to {target}"), touched))
}

fn ignore(model: &mut Model, random: &mut Random) -> Option<Edit> {
    let path = random.pick(&["a/ignored", "a/read.md", "b/z", "a/sub/deep"]);
    if !model.ignored.remove(*path) {
        model.ignored.insert((*path).to_owned());
    }
    Some(Edit::new(
        format!("whether {path} is ignored"),
        vec![Input::Ignore],
    ))
}

fn argument(model: &mut Model) -> Edit {
    model.argument += 1;
    Edit::new("the argument", vec![Input::Argument])
}

/// A line is another one, new, or gone.
fn line(model: &mut Model, random: &mut Random) -> Option<Edit> {
    let stage = random.below(model.stages.len());
    let count = model.stages[stage].steps.len();
    if random.one_in(3) {
        let step = model.step(random, stage);
        let id = step.id;
        let at = random.below(count + 1);
        model.stages[stage].steps.insert(at, step);
        return Some(Edit::new(
            format!("step {id} is new"),
            vec![Input::Step(id)],
        ));
    }
    let at = random.below(count);
    let step = &mut model.stages[stage].steps[at];
    let id = step.id;
    let is_removable = count > 1 && !matches!(step.kind, Kind::CopyFrom(_));
    let what = if is_removable && random.one_in(3) {
        model.stages[stage].steps.remove(at);
        format!("step {id} is gone")
    } else {
        step.version += 1;
        format!("step {id} is another")
    };
    Some(Edit::new(what, vec![Input::Step(id)]))
}

/// What no step depends on.
fn nothing(model: &mut Model, random: &mut Random) -> Option<Edit> {
    model.comment += 1;
    if random.one_in(2) {
        return Some(Edit::new("a comment", Vec::new()));
    }
    // Two stages that do not need each other change places.
    let at = random.below(model.order.len() - 1);
    let (first, second) = (model.order[at], model.order[at + 1]);
    let is_last = |stage| stage == model.stages.len() - 1;
    let needs = model.stages[second].parent == Some(first)
        || model.stages[second]
            .steps
            .iter()
            .any(|step| match step.kind {
                Kind::CopyFrom(other) | Kind::BindFrom(other) => other == first,
                _ => false,
            });
    if needs || is_last(first) || is_last(second) {
        return None;
    }
    model.order.swap(at, at + 1);
    Some(Edit::new(
        format!("stages {first} and {second} change places"),
        Vec::new(),
    ))
}
