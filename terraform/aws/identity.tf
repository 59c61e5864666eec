# Service accounts of the chart act by roles of their own, and hold no key. The annotation
# eks.amazonaws.com/role-arn in the chart's serviceAccounts.annotations names the role.
resource "aws_iam_openid_connect_provider" "cluster" {
  url            = aws_eks_cluster.this.identity[0].oidc[0].issuer
  client_id_list = ["sts.amazonaws.com"]
}

locals {
  issuer   = replace(aws_iam_openid_connect_provider.cluster.url, "https://", "")
  accounts = ["headwater-flink", "headwater-command"]
}

data "aws_iam_policy_document" "assume_by_accounts" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.cluster.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = [for account in local.accounts : "system:serviceaccount:${var.namespace}:${account}"]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "storage" {
  statement {
    actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
    resources = [aws_s3_bucket.this.arn]
  }
  statement {
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.this.arn}/iceberg/*", "${aws_s3_bucket.this.arn}/flink/*"]
  }
  statement {
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.data.arn]
  }
}

resource "aws_iam_role" "platform" {
  name               = "${var.name}-platform"
  assume_role_policy = data.aws_iam_policy_document.assume_by_accounts.json
}

resource "aws_iam_role_policy" "storage" {
  role   = aws_iam_role.platform.name
  policy = data.aws_iam_policy_document.storage.json
}
