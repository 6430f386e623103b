// Uploads a file with tus-js-client, as its documentation shows it. What to do is one JSON argument; what was done is
// one line of JSON: the upload's URL and every request as [method, status, offset told].
//
//   node tus.mjs '{"client": "tus-js-client-4", "act": "upload", "endpoint": …, "token": …, "file": …,
//                  "metadata": {…}, "options": {…}}'

import { createReadStream, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'

const asked = JSON.parse(process.argv[2])
const tus = await import(asked.client)
const requests = []

const options = {
  endpoint: asked.endpoint,
  headers: { Authorization: `Bearer ${asked.token}` },
  metadata: asked.metadata ?? {},
  onAfterResponse: (request, response) => {
    requests.push([request.getMethod(), response.getStatus(), response.getHeader('Upload-Offset') ?? null])
  },
  ...asked.options,
}

/** Starts an upload, and comes back when it succeeded, failed, or was aborted behind `stopBehind` bytes. */
function run(upload, stopBehind = Infinity, terminate = false) {
  return new Promise((resolve, reject) => {
    upload.options.onSuccess = () => resolve(upload.url)
    upload.options.onError = reject
    upload.options.onChunkComplete = (_chunk, accepted) => {
      if (accepted > stopBehind) upload.abort(terminate).then(() => resolve(upload.url), reject)
    }
    upload.start()
  })
}

const acts = {
  /** All of it, from the file. */
  async upload() {
    return run(new tus.Upload(createReadStream(asked.file), options))
  },

  /** All of it from memory, as a page does that holds a blob. */
  async buffer() {
    return run(new tus.Upload(readFileSync(asked.file), options))
  },

  /** From a stream that does not tell its length. */
  async stream() {
    const source = createReadStream(asked.file).pipe(new PassThrough())
    return run(new tus.Upload(source, { ...options, uploadLengthDeferred: true }))
  },

  /** Stopped behind `stopBehind` bytes, and found again by a second run of the page. */
  async resume() {
    // From version 5 on it has a module of its own.
    const { FileUrlStorage } = tus.FileUrlStorage ? tus : await import(`${asked.client}/node/FileUrlStorage`)
    const urlStorage = new FileUrlStorage(join(process.cwd(), `urls-${process.pid}.json`))
    const kept = { ...options, urlStorage }
    const first = new tus.Upload(createReadStream(asked.file), kept)
    const begun = await run(first, asked.stopBehind)
    requests.push('aborted')
    const second = new tus.Upload(createReadStream(asked.file), kept)
    const [previous] = await second.findPreviousUploads()
    second.resumeFromPreviousUpload(previous)
    const url = await run(second)
    if (url !== begun) throw new Error(`${url} is another upload than ${begun}`)
    return url
  },

  /** Stopped behind `stopBehind` bytes, and removed from the server. */
  async terminate() {
    return run(new tus.Upload(createReadStream(asked.file), options), asked.stopBehind, true)
  },

  /** Nothing is sent that the answer to the creation says is there: see docs/uploading.md. */
  async instant() {
    let whole = false
    const { onAfterResponse } = options
    options.onAfterResponse = (request, response) => {
      onAfterResponse(request, response)
      whole ||= request.getMethod() === 'POST' && response.getHeader('Upload-Offset') === String(asked.size)
    }
    options.onBeforeRequest = (request) => {
      if (whole && request.getMethod() === 'PATCH') throw new Error('the server has it')
    }
    return run(new tus.Upload(createReadStream(asked.file), options))
  },
}

const url = await acts[asked.act]()
console.log(JSON.stringify({ url, requests }))
// A connection that the server closed early may still have bytes to send; nobody waits for them.
process.exit(0)
