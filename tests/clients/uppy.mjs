// Uploads a file with Uppy and its plugin for tus, without a page around it. What to do is one JSON argument; what was
// done is one line of JSON: the upload's URL and every request as [method, status, offset told].
//
//   node uppy.mjs '{"endpoint": …, "token": …, "file": …, "name": …, "meta": {…}, "options": {…}}'

import { File } from 'node:buffer'
import { readFileSync } from 'node:fs'
import Uppy from '@uppy/core'
import Tus from '@uppy/tus'

// A page has it, and Node from version 20 on.
globalThis.File ??= File

const asked = JSON.parse(process.argv[2])
const requests = []

/** A page hands blobs over; the build of tus-js-client for Node reads buffers and streams only. */
const fileReader = {
  async openFile(blob) {
    return {
      size: blob.size,
      async slice(start, end) {
        const value = Buffer.from(await blob.slice(start, Math.min(end, blob.size)).arrayBuffer())
        value.size = value.length
        return { value, done: end >= blob.size }
      },
      close() {},
    }
  },
}

const uppy = new Uppy()
uppy.use(Tus, {
  endpoint: asked.endpoint,
  headers: { Authorization: `Bearer ${asked.token}` },
  fileReader,
  onAfterResponse: (request, response) => {
    requests.push([request.getMethod(), response.getStatus(), response.getHeader('Upload-Offset') ?? null])
  },
  ...asked.options,
})
uppy.addFile({ name: asked.name, type: 'video/mp4', data: new Blob([readFileSync(asked.file)]), meta: asked.meta })
const { failed, successful } = await uppy.upload()
if (failed.length > 0) throw new Error(failed[0].error)
console.log(JSON.stringify({ url: successful[0].uploadURL, requests }))
// A connection that the server closed early may still have bytes to send; nobody waits for them.
process.exit(0)
