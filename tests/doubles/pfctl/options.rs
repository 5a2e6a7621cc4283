//! The command line.

/// What was asked for.
#[derive(Default)]
pub struct Options {
    pub anchor: String,
    pub disable: bool,
    pub enable: bool,
    pub dry: bool,
    pub quiet: bool,
    pub verbose: u8,
    pub file: Option<String>,
    pub flush: Option<String>,
    pub show: Option<String>,
    pub kill: Vec<String>,
    pub table: Option<String>,
    pub command: Option<String>,
    pub rest: Vec<String>,
}

impl Options {
    /// As getopt(3) does; the word that the double does not know.
    pub fn parse(args: &[String]) -> Result<Options, String> {
        let mut options = Options::default();
        let mut args = args.iter();
        while let Some(word) = args.next() {
            let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                options.rest.push(word.clone());
                options.rest.extend(args.by_ref().cloned());
                break;
            };
            for (place, letter) in letters.char_indices() {
                match letter {
                    'd' => options.disable = true,
                    'e' => options.enable = true,
                    'n' => options.dry = true,
                    'q' => options.quiet = true,
                    'v' => options.verbose += 1,
                    'a' | 'f' | 'F' | 's' | 'k' | 't' | 'T' => {
                        let value = match &letters[place + 1..] {
                            "" => args.next().ok_or(word)?.clone(),
                            value => value.to_owned(),
                        };
                        options.set(letter, value);
                        break;
                    }
                    _ => return Err(word.clone()),
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, letter: char, value: String) {
        match letter {
            'a' => self.anchor = value,
            'f' => self.file = Some(value),
            'F' => self.flush = Some(value),
            's' => self.show = Some(value),
            'k' => self.kill.push(value),
            't' => self.table = Some(value),
            _ => self.command = Some(value),
        }
    }
}
