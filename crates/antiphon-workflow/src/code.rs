//! The list of diagnostic codes. Each has a page in `docs/errors/`; a code never changes its meaning.

use std::fmt;

use miette::Severity;

/// What a diagnostic is about: stable, and documented in `docs/errors/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(&'static str);

impl Code {
    /// The code, such as `AP0101`.
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// The path of its page in this repository.
    pub fn page(self) -> String {
        format!("docs/errors/{}.md", self.0)
    }

    /// How grave it is.
    pub fn severity(self) -> Severity {
        CODES.iter().find(|(code, ..)| *code == self).map_or(Severity::Error, |(_, severity, _)| *severity)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

macro_rules! codes {
    ($($name:ident $code:literal $severity:ident $title:literal;)*) => {
        $(#[doc = $title] pub const $name: Code = Code($code);)*
        /// All codes: each with its severity and title.
        pub const CODES: &[(Code, Severity, &str)] = &[$(($name, Severity::$severity, $title)),*];
    };
}

codes! {
    // The file itself.
    UNKNOWN_KEY "AP0101" Error "Unknown key";
    SYNTAX "AP0102" Error "Not valid TOML";
    WRONG_TYPE "AP0103" Error "Wrong type";
    BAD_VALUE "AP0104" Error "Value not allowed";
    MISSING_KEY "AP0105" Error "Missing key";
    NO_VERB "AP0106" Error "A step without a verb";
    SEVERAL_VERBS "AP0107" Error "A step with several verbs";
    WRONG_VERB "AP0108" Error "A key that this step can't have";
    BAD_NAME "AP0109" Error "Not a valid name";
    UNREADABLE "AP0110" Error "A file that can't be read";
    BAD_SCHEMA "AP0111" Error "Not a valid schema";
    // References.
    UNKNOWN_STEP "AP0201" Error "Unknown step";
    UNKNOWN_VARIABLE "AP0202" Error "Unknown name in an expression";
    UNKNOWN_INPUT "AP0203" Error "Unknown input";
    UNKNOWN_FIELD "AP0204" Error "A field that the step does not have";
    NOT_VISIBLE "AP0205" Error "A step or name that can't be seen from here";
    SHADOWED "AP0206" Error "An id that is used twice";
    BAD_EXPRESSION "AP0207" Error "Not a valid expression or template";
    NOT_BOOLEAN "AP0208" Error "A condition that is not boolean";
    // Graphs.
    CYCLE "AP0301" Error "Steps that wait for each other";
    CALL_CYCLE "AP0302" Error "Workflows that call each other";
    NO_BOUND "AP0303" Error "A repeat without a bound";
    UNUSED "AP0304" Warning "A value that nothing uses";
    NEVER_RUNS "AP0305" Warning "A step that never runs";
    MAY_BE_SKIPPED "AP0306" Advice "A step that may be skipped";
    TOO_LONG "AP0307" Error "A list that is too long for `for_each`";
    MUTUAL_AGENTS "AP0308" Advice "Agents that may come back to each other";
    // Servers, models, calls.
    UNKNOWN_CALLEE "AP0401" Error "Unknown server, agent or workflow";
    NOT_GRANTED "AP0402" Error "A tool that the server's `allow` leaves out";
    UNKNOWN_MODEL "AP0403" Error "Unknown model";
    OPEN_TARGET "AP0404" Error "A call whose targets are not a closed set";
    DUPLICATE_NAME "AP0405" Error "A name that is used twice";
    BAD_VARIABLE "AP0406" Error "Not a valid `${…}`";
    NOT_EXPANDED "AP0407" Warning "`${…}` where it is not expanded";
    OPEN_SECRET "AP0408" Warning "A secret in the open";
    BROKEN_CALLEE "AP0409" Error "A call of what has errors";
    BAD_ARGUMENTS "AP0410" Error "Arguments that do not fit the input";
    PREFERENCE "AP0411" Error "`prefer` that can't be followed";
    NO_EFFECT "AP0412" Warning "A part of `[serve]` that does nothing";
    // TOML's own traps.
    KEY_AFTER_TABLE "AP0501" Error "A step's key after a child table";
    MODIFIER_IN_WITH "AP0502" Warning "A modifier among the arguments";
    NO_HEADER "AP0503" Error "A block without a header of its own";
    TWO_SPELLINGS "AP0504" Error "One table, spelled twice";
    INLINE_TABLE "AP0505" Warning "An inline table that only TOML 1.1 can read";
    UNQUOTED "AP0506" Error "A date, time, `nan` or `inf`";
    BRACES_IN_PROSE "AP0507" Error "`{%` or `{#` in prose";
    BRACES_IN_EXPRESSION "AP0508" Error "`{{ … }}` in a bare expression";
}
