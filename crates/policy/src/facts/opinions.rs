//! Second opinions on a plain script: tree-sitter's bash grammar and brush's parser, both written by
//! others, must find the same commands, words and operators. Any disagreement is not understood.

use std::ops::Range;

use brush_parser::ast::{
    AndOr, Command, CommandPrefixOrSuffixItem as Item, Program, SimpleCommand,
};
use brush_parser::word::{WordPiece, WordPieceWithSource};
use brush_parser::{ParserOptions, parse_tokens, uncached_tokenize_str, word};
use tree_sitter::{Node, Parser};

use super::plain::{Joiner, Simple};
use crate::unclear::{Clear, refuse};

/// Deepest tree that is followed. A plain script of 20 commands stays below it.
const MAX_DEPTH: usize = 64;

/// Asks both parsers.
pub(crate) fn agree(text: &str, commands: &[Simple]) -> Clear<()> {
    match tree_sitter_agrees(text, commands) && brush_agrees(text, commands) {
        true => Ok(()),
        false => refuse("the parsers do not agree about what it means"),
    }
}

fn tree_sitter_agrees(text: &str, commands: &[Simple]) -> bool {
    tree_sitter_sees(text).is_some_and(|seen| seen.matches(commands))
}

fn brush_agrees(text: &str, commands: &[Simple]) -> bool {
    brush_sees(text).is_some_and(|seen| seen_by_brush_matches(&seen, text, commands))
}

/// What tree-sitter found, in the order of the text.
#[derive(Default)]
struct Seen {
    commands: Vec<Vec<Range<usize>>>,
    joiners: Vec<Joiner>,
    redirects: Vec<Range<usize>>,
}

impl Seen {
    fn push(&mut self, words: Vec<Range<usize>>) {
        // A newline between two commands is no node of the tree.
        if !self.commands.is_empty() && self.joiners.len() < self.commands.len() {
            self.joiners.push(Joiner::Sequence);
        }
        self.commands.push(words);
    }

    fn matches(&self, commands: &[Simple]) -> bool {
        let words = |command: &Simple| -> Vec<Range<usize>> {
            let spans = command.words.iter().map(|word| word.span.clone());
            match command.words.as_slice() {
                // `[ … ]` is an expression to tree-sitter: only where it stands is compared.
                [first, .., last] if first.text == "[" => {
                    std::iter::once(first.span.start..last.span.end).collect()
                }
                _ => spans.collect(),
            }
        };
        let redirects: Vec<_> = commands.iter().flat_map(|c| c.redirects.clone()).collect();
        let joiners: Vec<_> = commands.iter().skip(1).map(|c| c.joiner).collect();
        let mut seen = self.joiners.clone();
        // A separator at the very end joins nothing.
        if seen.len() == joiners.len() + 1 && seen.last() == Some(&Joiner::Sequence) {
            seen.pop();
        }
        self.commands.len() == commands.len()
            && self.commands.iter().zip(commands).all(|(seen, ours)| *seen == words(ours))
            && seen == joiners
            && self.redirects == redirects
    }
}

fn tree_sitter_sees(text: &str) -> Option<Seen> {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_bash::LANGUAGE.into()).ok()?;
    let tree = parser.parse(text, None)?;
    let root = tree.root_node();
    if root.has_error() {
        return None;
    }
    let mut seen = Seen::default();
    visit(root, &mut seen, 0)?;
    Some(seen)
}

/// Walks the nodes on the positive list; any other node ends the walk.
fn visit(node: Node<'_>, seen: &mut Seen, depth: usize) -> Option<()> {
    if depth > MAX_DEPTH || node.is_missing() || node.is_extra() {
        return None;
    }
    match node.kind() {
        "program" | "list" | "pipeline" | "redirected_statement" => {
            let mut cursor = node.walk();
            for child in node.children(&mut cursor) {
                visit(child, seen, depth + 1)?;
            }
        }
        "command" => visit_command(node, seen)?,
        "test_command" if node.child(0).is_some_and(|child| child.kind() == "[") => {
            seen.push(vec![node.byte_range()]);
        }
        "file_redirect" => seen.redirects.push(node.byte_range()),
        "&&" => seen.joiners.push(Joiner::And),
        "||" => seen.joiners.push(Joiner::Or),
        "|" => seen.joiners.push(Joiner::Pipe),
        ";" => seen.joiners.push(Joiner::Sequence),
        _ => return None,
    }
    Some(())
}

fn visit_command(node: Node<'_>, seen: &mut Seen) -> Option<()> {
    let mut words = Vec::new();
    let mut cursor = node.walk();
    for child in node.children(&mut cursor) {
        match child.kind() {
            "file_redirect" => seen.redirects.push(child.byte_range()),
            "command_name" | "word" | "string" | "raw_string" | "number" | "concatenation" => {
                is_plain_word(child, 0)?;
                words.push(child.byte_range());
            }
            _ => return None,
        }
    }
    seen.push(words);
    Some(())
}

fn is_plain_word(node: Node<'_>, depth: usize) -> Option<()> {
    const PLAIN: &[&str] = &[
        "command_name",
        "word",
        "string",
        "string_content",
        "raw_string",
        "number",
        "concatenation",
        "\"",
        "$",
    ];
    if depth > MAX_DEPTH || !PLAIN.contains(&node.kind()) {
        return None;
    }
    let mut cursor = node.walk();
    node.children(&mut cursor).try_for_each(|child| is_plain_word(child, depth + 1))
}

/// What brush found: each command with the operator before it.
fn brush_sees(text: &str) -> Option<Vec<(Joiner, SimpleCommand)>> {
    let options = ParserOptions { enable_extended_globbing: false, ..ParserOptions::default() };
    let tokens = uncached_tokenize_str(text, &options.tokenizer_options()).ok()?;
    let program: Program = parse_tokens(&tokens, &options).ok()?;
    let mut seen = Vec::new();
    for item in program.complete_commands.into_iter().flat_map(|list| list.0) {
        let brush_parser::ast::SeparatorOperator::Sequence = item.1 else { return None };
        let rest = item.0.additional.into_iter().map(|next| match next {
            AndOr::And(pipeline) => (Joiner::And, pipeline),
            AndOr::Or(pipeline) => (Joiner::Or, pipeline),
        });
        for (joiner, pipeline) in std::iter::once((Joiner::Sequence, item.0.first)).chain(rest) {
            if pipeline.timed.is_some() || pipeline.bang {
                return None;
            }
            for (stage, command) in pipeline.seq.into_iter().enumerate() {
                let Command::Simple(simple) = command else { return None };
                seen.push((if stage == 0 { joiner } else { Joiner::Pipe }, simple));
            }
        }
    }
    Some(seen)
}

fn seen_by_brush_matches(
    seen: &[(Joiner, SimpleCommand)],
    text: &str,
    commands: &[Simple],
) -> bool {
    seen.len() == commands.len()
        && seen.iter().zip(commands).all(|((joiner, simple), ours)| {
            *joiner == ours.joiner && same_words(simple, text, ours).unwrap_or(false)
        })
}

fn same_words(simple: &SimpleCommand, text: &str, ours: &Simple) -> Option<bool> {
    if simple.prefix.is_some() {
        return None;
    }
    let mut words = vec![simple.word_or_name.as_ref()?];
    let mut redirects = 0;
    for item in simple.suffix.iter().flat_map(|suffix| &suffix.0) {
        match item {
            Item::Word(word) | Item::AssignmentWord(_, word) => words.push(word),
            Item::IoRedirect(_) => redirects += 1,
            Item::ProcessSubstitution(..) => return None,
        }
    }
    let same = words.len() == ours.words.len()
        && redirects == ours.redirects.len()
        && words.iter().zip(&ours.words).all(|(theirs, ours)| {
            theirs.value == text[ours.span.clone()]
                && decode(&theirs.value).is_some_and(|text| text == ours.text)
        });
    Some(same)
}

/// What brush makes of a word, if it has no expansion.
fn decode(raw: &str) -> Option<String> {
    let options = ParserOptions { enable_extended_globbing: false, ..ParserOptions::default() };
    let mut text = String::new();
    append(&word::parse(raw, &options).ok()?, &mut text)?;
    Some(text)
}

fn append(pieces: &[WordPieceWithSource], text: &mut String) -> Option<()> {
    for piece in pieces {
        match &piece.piece {
            WordPiece::Text(part) | WordPiece::SingleQuotedText(part) => text.push_str(part),
            WordPiece::EscapeSequence(part) => text.push_str(part.strip_prefix('\\')?),
            WordPiece::DoubleQuotedSequence(parts) => append(parts, text)?,
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::plain::{self, Word};
    use super::*;

    const PLAIN: &[&str] = &[
        "ls -la 'my dir' && cat a.txt | wc -l; echo \"x \\\"y\\\"\" || pwd\ntrue",
        "ls 2>/dev/null && pwd > /dev/null 2>&1; true",
        "cat < /dev/null;",
        "[ -f a ] && [ ! -d 'b c' ] || echo a\\ b",
        "echo a''b \"foo$\" 5 1.5 --x=y",
        "ls\n\npwd;\n",
    ];

    /// One thing about a script is seen otherwise.
    type Lie = fn(&mut Vec<Simple>);

    #[test]
    fn each_agrees_about_what_is_plain() {
        for text in PLAIN {
            let commands = plain::split(text).unwrap();
            assert!(tree_sitter_agrees(text, &commands), "{text}");
            assert!(brush_agrees(text, &commands), "{text}");
        }
    }

    #[test]
    fn each_notices_by_itself_what_was_seen_otherwise() {
        let lies: &[Lie] = &[
            |commands| drop(commands.pop()),
            |commands| commands.push(commands[0].clone()),
            |commands| commands.clear(),
            |commands| commands[1].joiner = Joiner::Or,
            |commands| commands[1].joiner = Joiner::Sequence,
            |commands| commands[2].joiner = Joiner::And,
            |commands| drop(commands[0].words.pop()),
            |commands| commands[0].words[1].span.end -= 1,
            |commands| commands[0].words.push(Word { span: 0..2, text: "ls".into() }),
            |commands| commands[0].words.swap(0, 1),
            |commands| {
                commands[0].redirects.pop();
            },
            |commands| commands[2].redirects.push(0..2),
        ];
        let text = "ls -a b 2>/dev/null && cat a.txt | wc -l";
        for (index, lie) in lies.iter().enumerate() {
            let mut commands = plain::split(text).unwrap();
            lie(&mut commands);
            assert!(!tree_sitter_agrees(text, &commands), "{index}");
            assert!(!brush_agrees(text, &commands), "{index}");
        }
        // What a word means is brush's to say, where a redirection ends is tree-sitter's.
        let mut commands = plain::split(text).unwrap();
        commands[0].words[2].text = "c".into();
        assert!(!brush_agrees(text, &commands));
        let mut commands = plain::split(text).unwrap();
        commands[0].redirects[0].end -= 1;
        assert!(!tree_sitter_agrees(text, &commands));
    }

    #[test]
    fn each_refuses_by_itself_what_expands() {
        for word in ["$x", "$(id)", "`id`", "\"$x\"", "\"`id`\"", "$((1))", "$'a'", "<(id)"] {
            let text = format!("ls {word}");
            let words = [0..2, 3..text.len()]
                .map(|span| Word { text: text[span.clone()].to_owned(), span })
                .to_vec();
            let commands = [Simple { joiner: Joiner::Sequence, words, redirects: Vec::new() }];
            assert!(!tree_sitter_agrees(&text, &commands), "{text}");
            assert!(!brush_agrees(&text, &commands), "{text}");
        }
    }

    #[test]
    fn each_refuses_by_itself_what_is_no_list_of_simple_commands() {
        for text in [
            "! ls",
            "time ls",
            "(ls)",
            "{ ls; }",
            "ls &",
            "if ls; then ls; fi",
            "while ls; do ls; done",
            "A=1 ls",
            "f() { ls; }",
            "[[ ls ]]",
            "cat <<E\nE\n",
        ] {
            // As if somebody had taken the first and last word of it for a command.
            let start = text.find("ls").or_else(|| text.find("cat")).unwrap_or(0);
            let word = Word { span: start..start + 2, text: text[start..start + 2].to_owned() };
            let one = Simple { joiner: Joiner::Sequence, words: vec![word], redirects: Vec::new() };
            for count in 1..=3 {
                let commands = vec![one.clone(); count];
                assert!(!tree_sitter_agrees(text, &commands), "{text}");
                assert!(!brush_agrees(text, &commands), "{text}");
            }
        }
    }
}
