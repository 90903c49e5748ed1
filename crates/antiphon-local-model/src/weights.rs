//! Tensors out of a GGUF file, in the types for which there are fast kernels.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result, Tensor, bail};

/// The kernels that read whole tiles want rows of so many values; shorter rows are filled up with zeros.
const TILE: usize = 256;

/// A GGUF file, opened.
pub(crate) struct Gguf {
    content: Content,
    file: BufReader<File>,
}

/// A matrix whose rows may have been filled up.
pub(crate) struct Matrix {
    pub(crate) tensor: Arc<QTensor>,
    /// How many zeros stand at the end of each row: what it is multiplied with must have them too.
    pub(crate) padding: usize,
}

impl Gguf {
    /// Reads what stands before the tensors.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
        let content = Content::read(&mut file)?;
        Ok(Self { content, file })
    }

    /// All of it but the tensors.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// A key that must be there.
    pub(crate) fn meta(&self, key: &str) -> Result<&Value> {
        match self.content.metadata.get(key) {
            Some(value) => Ok(value),
            None => bail!("the file has no `{key}`"),
        }
    }

    /// A key's value when it is there and a number.
    pub(crate) fn number(&self, key: &str) -> Option<usize> {
        self.content.metadata.get(key).and_then(|value| value.to_u64().ok()).and_then(|n| usize::try_from(n).ok())
    }

    /// A key's value when it is there and a text.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.content.metadata.get(key).and_then(|value| value.to_string().ok()).map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// A small tensor, in full precision.
    pub(crate) fn vector(&mut self, name: &str) -> Result<Tensor> {
        self.read(name)?.dequantize(&Device::Cpu)
    }

    /// A table of which rows are looked up: it stays as it is.
    pub(crate) fn table(&mut self, name: &str) -> Result<Arc<QTensor>> {
        self.read(name).map(Arc::new)
    }

    /// A matrix to multiply with, in a type that has a fast kernel. Eight bits keep what fewer bits said.
    pub(crate) fn matrix(&mut self, name: &str) -> Result<Matrix> {
        use GgmlDType as D;
        let tensor = self.read(name)?;
        let (_, width) = tensor.shape().dims2()?;
        let padding = width.next_multiple_of(TILE) - width;
        let slow = matches!(tensor.dtype(), D::F32 | D::F16 | D::BF16 | D::Q4_0 | D::Q4_1 | D::Q5_0 | D::Q5_1);
        if !slow && padding == 0 {
            return Ok(Matrix { tensor: Arc::new(tensor), padding });
        }
        let full = tensor.dequantize(&Device::Cpu)?;
        let full = if padding == 0 { full } else { full.pad_with_zeros(1, 0, padding)? };
        Ok(Matrix { tensor: Arc::new(QTensor::quantize(&full, D::Q8_0)?), padding })
    }

    fn read(&mut self, name: &str) -> Result<QTensor> {
        self.content.tensor(&mut self.file, name, &Device::Cpu)
    }
}
