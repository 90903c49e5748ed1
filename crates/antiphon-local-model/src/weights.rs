//! Tensors out of a GGUF file, in the types for which there are fast kernels.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result, Tensor, bail};

use crate::linear::Matrix;
use crate::packed::Packed;

/// candle's kernels that read whole tiles want rows of so many values; shorter rows are filled up with zeros.
const TILE: usize = 256;

/// A GGUF file, opened.
pub(crate) struct Gguf {
    content: Content,
    file: BufReader<File>,
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
        let mut tensor = self.read(name)?;
        let (_, width) = tensor.shape().dims2()?;
        let slow = matches!(tensor.dtype(), D::F32 | D::F16 | D::BF16 | D::Q4_0 | D::Q4_1 | D::Q5_0 | D::Q5_1);
        if slow && width.is_multiple_of(32) {
            tensor = eight_bits(&tensor, 0)?;
        }
        if let Some(packed) = Packed::of(&tensor)? {
            return Ok(Matrix::Packed(packed));
        }
        let padding = width.next_multiple_of(TILE) - width;
        let tensor = if padding == 0 { tensor } else { eight_bits(&tensor, padding)? };
        Ok(Matrix::Plain { tensor: Arc::new(tensor), padding })
    }

    fn read(&mut self, name: &str) -> Result<QTensor> {
        self.content.tensor(&mut self.file, name, &Device::Cpu)
    }
}

/// With so many zeros at the end of each row.
fn eight_bits(tensor: &QTensor, padding: usize) -> Result<QTensor> {
    let full = tensor.dequantize(&Device::Cpu)?;
    let full = if padding == 0 { full } else { full.pad_with_zeros(1, 0, padding)? };
    QTensor::quantize(&full, GgmlDType::Q8_0)
}
