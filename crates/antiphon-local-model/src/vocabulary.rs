//! Text to tokens and back.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::tokenizer::TokenizerFromGguf;
use candle_core::{Error, Result, bail};
use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

use crate::weights::Gguf;

/// What a model calls the end of its turn, whatever its file says: they differ in which of them they set.
const ENDS: [&str; 5] = ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>"];

/// A model's tokens.
pub(crate) struct Vocabulary {
    tokenizer: Tokenizer,
    /// The bytes of each token; nothing for those that control.
    bytes: Vec<Vec<u8>>,
    /// Tokens that control, by what they are called.
    controls: HashMap<String, u32>,
    /// Any of these ends a turn.
    ends: Vec<u32>,
    /// Begins every text, where the model wants that.
    begin: Option<u32>,
    trie: TokTrie,
}

impl Vocabulary {
    /// Reads it out of a model's file.
    pub(crate) fn load(file: &Gguf) -> Result<Self> {
        let mut tokenizer = Tokenizer::from_gguf(file.content())?;
        // What begins a text is put there by the template.
        tokenizer.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        if file.text("tokenizer.ggml.pre") == Some("smollm") {
            let steps = vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()];
            tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
        }
        let tokens = file.meta("tokenizer.ggml.tokens")?.to_vec()?;
        let kinds = file.meta("tokenizer.ggml.token_type")?.to_vec()?;
        if kinds.len() != tokens.len() || tokens.is_empty() {
            bail!("{} tokens, and {} kinds of them", tokens.len(), kinds.len());
        }
        let alphabet = alphabet();
        let mut bytes = Vec::with_capacity(tokens.len());
        let mut words = Vec::with_capacity(tokens.len());
        let mut controls = HashMap::new();
        for (id, (token, kind)) in tokens.iter().zip(kinds).enumerate() {
            let text = token.to_string()?;
            // 1 is a piece of text; 4 is one that somebody added; 6 is a byte. The others control.
            if matches!(kind.to_i32().or_else(|_| kind.to_u32().map(u32::cast_signed))?, 1 | 4 | 6) {
                let piece: Vec<u8> = text.chars().flat_map(|c| spell(c, &alphabet)).collect();
                words.push(piece.clone());
                bytes.push(piece);
            } else {
                words.push([b"\xff", text.as_bytes()].concat());
                bytes.push(Vec::new());
                controls.insert(text.clone(), u32::try_from(id).map_err(Error::wrap)?);
            }
        }
        let number = |key: &str| file.number(key).and_then(|id| u32::try_from(id).ok());
        let named = ENDS.iter().filter_map(|name| controls.get(*name).copied());
        let mut ends: Vec<u32> = number("tokenizer.ggml.eos_token_id").into_iter().chain(named).collect();
        ends.dedup();
        let Some(&end) = ends.first() else { bail!("the file does not say what ends a turn") };
        let size = u32::try_from(words.len()).map_err(Error::wrap)?;
        let begin =
            file.meta("tokenizer.ggml.add_bos_token").and_then(candle_core::quantized::gguf_file::Value::to_bool);
        let begin = if begin.unwrap_or(false) { number("tokenizer.ggml.bos_token_id") } else { None };
        let trie = TokTrie::from(&TokRxInfo::new(size, end), &words);
        Ok(Self { tokenizer, bytes, controls, ends, begin, trie })
    }

    /// The name of a token that controls, by the key under which the file has its number.
    pub(crate) fn named(&self, file: &Gguf, key: &str) -> Option<String> {
        let id = file.number(key).and_then(|id| u32::try_from(id).ok())?;
        self.tokenizer.id_to_token(id)
    }

    /// Tokens of a text of which only some parts may control: those are the template's own.
    pub(crate) fn encode<'a>(&self, parts: impl IntoIterator<Item = Part<'a>>) -> Result<Vec<u32>> {
        let mut tokens: Vec<u32> = self.begin.into_iter().collect();
        for part in parts {
            match part {
                Part::Template(text) => tokens.extend(self.encode_text(text)?),
                Part::Content(text) => {
                    for piece in self.harmless(text) {
                        tokens.extend(self.encode_text(piece)?);
                    }
                }
            }
        }
        if let (Some(begin), Some(rest)) = (self.begin, tokens.get(1..))
            && rest.first() == Some(&begin)
        {
            tokens.remove(0);
        }
        Ok(tokens)
    }

    /// A text cut within every name of a token that controls, so that none of its pieces is one.
    fn harmless<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut cuts: Vec<usize> = Vec::new();
        for name in self.controls.keys() {
            let inside = name.chars().next().map_or(0, char::len_utf8);
            cuts.extend(text.match_indices(name.as_str()).map(|(at, _)| at + inside));
        }
        cuts.sort_unstable();
        cuts.dedup();
        let mut pieces = Vec::with_capacity(cuts.len() + 1);
        let mut from = 0;
        for cut in cuts {
            pieces.push(&text[from..cut]);
            from = cut;
        }
        pieces.push(&text[from..]);
        pieces
    }

    fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.tokenizer.encode_fast(text, false).map_err(Error::wrap)?.get_ids().to_vec())
    }

    /// The bytes that a token stands for.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether a token ends the model's turn.
    pub(crate) fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// As grammars want it.
    pub(crate) fn environment(self: &Arc<Self>) -> TokEnv {
        Arc::new(Environment(self.clone()))
    }
}

/// A part of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Written by whoever made the model: names of tokens in it are these tokens.
    Template(&'a str),
    /// Written by anybody: names of tokens in it are text.
    Content(&'a str),
}

struct Environment(Arc<Vocabulary>);

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.0.trie
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        let trie = &self.0.trie;
        trie.tokenize_with_greedy_fallback(text, |text| {
            self.0.encode_text(text).unwrap_or_else(|_| trie.greedy_tokenize(text.as_bytes()))
        })
    }
}

/// The bytes behind the characters that byte-level vocabularies are written in: printable ones are themselves, the others
/// were moved, in order, behind the first 256.
fn alphabet() -> HashMap<char, u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let moved = (0..=u8::MAX).filter(|byte| !printable(byte)).zip('\u{100}'..);
    (0..=u8::MAX)
        .filter(printable)
        .map(|byte| (char::from(byte), byte))
        .chain(moved.map(|(byte, c)| (c, byte)))
        .collect()
}

fn spell(c: char, alphabet: &HashMap<char, u8>) -> Vec<u8> {
    match alphabet.get(&c) {
        Some(byte) => vec![*byte],
        // Not of the alphabet: it was added as it is.
        None => c.to_string().into_bytes(),
    }
}
