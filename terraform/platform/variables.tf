variable "namespace" {
  description = "Is made, and the chart is installed in it."
  type        = string
  default     = "features"
}

variable "values" {
  description = "The chart's values as YAML texts, the last one wins: the plan's, a profile's, the site's."
  type        = list(string)
}

variable "strimzi" {
  description = "Strimzi's version; null where nothing of Kafka runs in the cluster."
  type        = string
  default     = "1.2.0"
  nullable    = true
}

variable "flink_operator" {
  description = "The Flink operator's version: 1.13 is the first that knows Flink 2.1."
  type        = string
  default     = "1.13.0"
}

variable "prometheus" {
  description = "Version of kube-prometheus-stack; null where metrics are read already."
  type        = string
  default     = "78.5.0"
  nullable    = true
}

variable "storage" {
  description = "Storage class of the disks of Prometheus (50 GiB) and Alertmanager (1 GiB); null: both forget all with their pods."
  type        = string
  default     = null
  nullable    = true
}

variable "install" {
  description = "Install the chart as well: its secrets must be there."
  type        = bool
  default     = false
}
