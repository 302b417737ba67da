//! Fenced blocks of the documents, and the commands in them.

use std::fs;

/// A fenced block of a document.
pub struct Block {
    page: String,
    /// Line of the opening fence, from 1.
    line: usize,
    pub language: String,
    pub lines: Vec<String>,
}

/// A command of a block, without its comment, and its printed output.
pub struct Step {
    pub command: String,
    pub printed: Vec<String>,
}

/// Returns all blocks of a document in order.
pub fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(format!("{}/{page}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(language) => {
                inside = true;
                blocks.push(Block {
                    page: page.to_owned(),
                    line: number + 1,
                    language: language.to_owned(),
                    lines: Vec::new(),
                });
            }
            None if inside => blocks.last_mut().unwrap().lines.push(line.to_owned()),
            None => {}
        }
    }
    assert!(!inside, "{page}: a block without an end");
    blocks
}

/// Returns the message for a document whose blocks do not match its rules.
pub fn uncovered(blocks: &[Block]) -> String {
    let names: Vec<String> = blocks.iter().map(Block::name).collect();
    format!("not the blocks that there are rules for:\n{}", names.join("\n"))
}

impl Block {
    pub fn name(&self) -> String {
        let first = self.lines.first().map_or("", String::as_str);
        format!("{}:{}: a block of {:?}: {first}", self.page, self.line, self.language)
    }

    pub fn has_commands(&self) -> bool {
        ["sh", "console"].contains(&self.language.as_str())
    }

    /// Returns the commands: one per line in `sh` blocks, after prompts in `console` blocks; a here-document is part of
    /// its command.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let mut lines = self.lines.iter();
        while let Some(line) = lines.next() {
            let command = match self.language.as_str() {
                "sh" => Some(line.as_str()),
                "console" => line.strip_prefix("$ "),
                _ => panic!("no rule for {}", self.name()),
            };
            let Some(command) = command else {
                let step = steps
                    .last_mut()
                    .unwrap_or_else(|| panic!("no command in {}", self.name()));
                step.printed.push(line.clone());
                continue;
            };
            let mut command = without_comment(command).to_owned();
            if command.contains("<<'EOF'") {
                for line in lines.by_ref() {
                    command = format!("{command}\n{line}");
                    if line == "EOF" {
                        break;
                    }
                }
            }
            steps.push(Step {
                command,
                printed: Vec::new(),
            });
        }
        steps
    }
}

fn without_comment(line: &str) -> &str {
    line.split_once(" #").map_or(line, |(command, _)| command).trim_end()
}
