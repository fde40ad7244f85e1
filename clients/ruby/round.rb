# frozen_string_literal: true

# Calls a running mesh once in every way that matters and prints what came back as one JSON object.
#
#     ruby -Ilib -Ibuild round.rb PHOTO CLIP

require 'json'
require 'sensorium/client'

V = Sensorium::Vision::V1
TEXTS = ['A cat is sleeping on the sofa.', 'The kitten naps on the couch.', 'Interest rates rose again.'].freeze

def classify(client, photo)
  reply = client.vision.classify_image(V::ClassifyImageRequest.new(images: [V::Image.new(content: photo)], top_k: 3))
  # One bad image does not fail the call: each result has a status of its own.
  result = reply.results.first
  raise result.status.message if result.status&.code&.nonzero?

  best = result.classifications.first
  { label: best.label, score: best.score, model: reply.model.name }
end

def embed(client, texts)
  reply = client.nlp.embed_text(Sensorium::Nlp::V1::EmbedTextRequest.new(texts: texts))
  reply.results.map { |result| result.embedding.values.to_a }
end

def compare(client)
  # The cosine: the mesh's embeddings have length 1.
  dot = ->(left, right) { left.zip(right).sum { |a, b| a * b } }
  cat, kitten, rates = embed(client, TEXTS)
  { dimensions: cat.size, near: dot.call(cat, kitten), far: dot.call(cat, rates) }
end

def transcribe(client, clip)
  audio = Sensorium::Speech::V1::Audio.new(content: clip)
  { text: client.speech.transcribe(Sensorium::Speech::V1::TranscribeRequest.new(audio: audio)).text }
end

def int64s(name, values)
  Inference::ModelInferRequest::InferInputTensor.new(
    name: name, datatype: 'INT64', shape: [1, values.size],
    contents: Inference::InferTensorContents.new(int64_contents: values)
  )
end

def stream(client)
  inputs = [int64s('input_ids', [101, 4937, 102]), int64s('attention_mask', [1, 1, 1])]
  requests = %w[a b c].lazy.map { |id| Inference::ModelInferRequest.new(model_name: 'minilm', id: id, inputs: inputs) }
  replies = client.tensors.model_stream_infer(requests).to_a
  { ids: replies.map { |reply| reply.infer_response&.id },
    errors: replies.count { |reply| !reply.error_message.empty? } }
end

# What an error says of itself: its code, and where it names a field, that and the rest.
def refusal
  yield
  { code: 'OK' }
rescue GRPC::BadStatus => e
  details = Sensorium::ErrorDetails.of(e)
  return { code: details.code } if details.violations.empty?

  { code: details.code, field: details.violations.first.field, reason: details.reason,
    requestId: !details.request_id.to_s.empty? }
end

abort 'usage: round.rb PHOTO CLIP' unless ARGV.size == 2
photo, clip = ARGV.map { |path| File.binread(path) }
about = { images: [V::Image.new(content: photo)] }
client = Sensorium::Client.new
stranger = Sensorium::Client.new(token: '')
flaky = Sensorium::Client.new(address: ENV.fetch('SENSORIUM_FLAKY_ADDRESS', nil))

puts JSON.generate(
  photo: classify(client, photo),
  sentence: compare(client),
  clip: transcribe(client, clip),
  models: client.mesh.list_models(Sensorium::Mesh::V1::ListModelsRequest.new).models.size,
  stream: stream(client),
  noToken: refusal { embed(stranger, ['again']) },
  empty: refusal { client.vision.classify_image(V::ClassifyImageRequest.new) },
  unknown: refusal { client.vision.classify_image(V::ClassifyImageRequest.new(model: 'no-such-model', **about)) },
  late: refusal { client.vision.classify_image(V::ClassifyImageRequest.new(**about), deadline: Time.now + 0.001) },
  retried: { dimensions: embed(flaky, ['again']).first.size },
  client: { language: 'ruby', grpc: GRPC::VERSION, runtime: RUBY_VERSION }
)
