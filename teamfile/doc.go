// Package teamfile reads teams from YAML.
//
//	name: renaissance
//	model: ollama/llama3.2
//	plan: {kind: round_table, rounds: 2, synthesizer: historian}
//	members:
//	  - {name: historian, role: an expert in Renaissance history}
//	  - {name: technologist, role: an expert in printing technology, tools: [calculator]}
//
// A [File] is the same thing as data: [File.Team] makes the team of it, and
// [File.Definition] the JSON from which any other process makes the same team
// again ([ParseDefinition]). Everything that is wrong with a file is an error of
// class invalid that names the file and line, the field, its value and what is
// allowed. Keys and tokens have no place in the format: providers read them from
// the environment.
package teamfile
