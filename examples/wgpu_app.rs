//! An application that renders with wgpu and lets a model write on the same device, between its frames.
//!
//! It draws without a window: a frame is a texture in one colour, which it reads back to see that rendering and
//! generating get on with each other. The device is created with wgpu's default limits, as many applications do.
//!
//! ```text
//! cargo run --release --example wgpu_app -- gpt-j-6b
//! ```

use std::path::Path;

use gptj::wgpu;
use gptj::{
    Checkpoint, Error, GenerateOptions, Generation, Gpu, GpuOptions, LoadOptions, Model, SamplingOptions, Tokenizer,
};

/// What the application had before it heard of the engine.
struct Renderer {
    device: wgpu::Device,
    queue: wgpu::Queue,
    frame: wgpu::Texture,
    pixels: wgpu::Buffer,
}

/// Pixels of a frame each way; a row of four bytes each is as long as copies want it.
const SIDE: u32 = 64;

impl Renderer {
    fn new(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let size = wgpu::Extent3d { width: SIDE, height: SIDE, depth_or_array_layers: 1 };
        let frame = device.create_texture(&wgpu::TextureDescriptor {
            label: Some("frame"),
            size,
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: wgpu::TextureFormat::Rgba8Unorm,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        let pixels = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("pixels"),
            size: u64::from(4 * SIDE * SIDE),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        Self { device, queue, frame, pixels }
    }

    /// Renders a frame of this much green and returns the green of its first pixel.
    fn render(&self, green: f64) -> u8 {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let view = self.frame.create_view(&wgpu::TextureViewDescriptor::default());
        let clear = wgpu::Color { r: 0.0, g: green, b: 0.0, a: 1.0 };
        drop(encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("frame"),
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations { load: wgpu::LoadOp::Clear(clear), store: wgpu::StoreOp::Store },
            })],
            ..Default::default()
        }));
        let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(4 * SIDE), rows_per_image: None };
        encoder.copy_texture_to_buffer(
            self.frame.as_image_copy(),
            wgpu::TexelCopyBufferInfo { buffer: &self.pixels, layout },
            self.frame.size(),
        );
        self.queue.submit([encoder.finish()]);
        self.pixels.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("the frame can be read"));
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the GPU works");
        let green = self.pixels.get_mapped_range(..).expect("it is mapped")[1];
        self.pixels.unmap();
        green
    }
}

async fn run(directory: &Path) -> Result<(), Error> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await.expect("there is a GPU");
    let (device, queue) =
        adapter.request_device(&wgpu::DeviceDescriptor::default()).await.expect("the GPU can be opened");
    let renderer = Renderer::new(device.clone(), queue.clone());

    let gpu = Gpu::share(&adapter, device, queue, &GpuOptions::default()).await?;
    let checkpoint = Checkpoint::open(directory)?;
    let tokenizer = Tokenizer::open(directory, checkpoint.config().vocab_size)?.expect("the model has a tokenizer");
    let mut model = Model::load(&gpu, &checkpoint, &LoadOptions::default(), |_| ()).await?;

    let prompt = tokenizer.encode("Jul. O Romeo")?;
    let sampling = SamplingOptions { seed: 3, ..SamplingOptions::default() };
    let options = GenerateOptions { max_new_tokens: Some(16), sampling, ..GenerateOptions::default() };
    let mut text = Generation::new(&mut model, Some(&tokenizer), &prompt, &options)?;
    for frame in 0u8.. {
        let Some(token) = text.next().await? else { break };
        let green = renderer.render(f64::from(frame) / 255.0);
        assert_eq!(green, frame, "the frame has the colour that was asked for");
        println!("frame {frame:2}, green {green:2}: {:?}", token.text);
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "models/shakespeare".to_owned());
    pollster::block_on(run(directory.as_ref()))
}
